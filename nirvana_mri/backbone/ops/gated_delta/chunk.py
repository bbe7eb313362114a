"""The gated delta rule in chunks of tokens: the same numbers as naive.py, by matrix products."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nirvana_mri.backbone.ops.gated_delta.naive import L2_EPS, l2norm

CHUNK = 32
BLOCK = 4 * CHUNK  # what is made together, before the state passes through: small enough for the processor's cache


class Chunk(NamedTuple):
    """What a chunk does to the state S: it writes R = U - W S, gives Q S + A R, and leaves e^G S + K^T R."""

    q: Float[Tensor, "batch_head token key"]
    a: Float[Tensor, "batch_head token token"]
    u: Float[Tensor, "batch_head token value"]
    w: Float[Tensor, "batch_head token key"]
    k: Float[Tensor, "batch_head token key"]
    decay: Float[Tensor, "batch_head 1 1"]


def gated_delta_rule_chunk(
    q: Float[Tensor, "batch token head key"],
    k: Float[Tensor, "batch token head key"],
    v: Float[Tensor, "batch token head value"],
    g: Float[Tensor, "batch token head"],
    beta: Float[Tensor, "batch token head"],
    state: Float[Tensor, "batch head key value"] | None = None,
) -> tuple[Float[Tensor, "batch token head value"], Float[Tensor, "batch head key value"]]:
    """Outputs of every token and the last state; arguments as in gated_delta_rule_naive, any number of tokens.

    Only the state passes from chunk to chunk. The rest is made for a few chunks at once: for all of them it would leave
    the processor's cache, and for one alone the calls would cost more than the work. A single token, which is a step
    of generation, takes the recurrence itself.
    """
    batch, tokens, heads, key = q.shape
    before = k.new_zeros(batch * heads, key, v.shape[3]) if state is None else state.flatten(0, 1)
    if tokens == 1:
        output, before = _one_token(before, q, k, v, g, beta)
        return output, before.unflatten(0, (batch, heads))
    outputs = []
    # split, not slices: the gradient of a slice is a whole array of zeros.
    for block in zip(*(x.split(BLOCK, dim=1) for x in (q, k, v, g[..., None], beta[..., None])), strict=True):
        for chunk in _chunks(*block):
            written = torch.baddbmm(chunk.u, chunk.w, before, alpha=-1)
            output = torch.bmm(chunk.a, written).baddbmm_(chunk.q, before)
            before = (chunk.decay * before).baddbmm_(chunk.k.mT, written)
            outputs.append(output.unflatten(0, (batch, heads)).transpose(1, 2))
    outputs[-1] = outputs[-1][:, : CHUNK - -tokens % CHUNK]
    return torch.cat(outputs, dim=1), before.unflatten(0, (batch, heads))


def _chunks(
    q: Float[Tensor, "batch token head key"],
    k: Float[Tensor, "batch token head key"],
    v: Float[Tensor, "batch token head value"],
    g: Float[Tensor, "batch token head 1"],
    beta: Float[Tensor, "batch token head 1"],
) -> list[Chunk]:
    """The chunks of one block. Tokens added to fill the last one neither write nor forget.

    What token i writes is r_i = beta_i (v_i - e^{G_i} S^T k_i - sum_{j<i} e^{G_i - G_j} (k_i . k_j) r_j), where G is
    the sum of g since the chunk began: a unit triangular system, inverted once. It is solved transposed, because
    row-major memory is what the library then takes without a copy. What normalises q and k, and beta, are multiplied
    into the small matrices.
    """
    together = q.shape[0] * q.shape[2]
    unit_q, unit_k = _inverse_norm(q) * q.shape[3] ** -0.5, _inverse_norm(k)
    q, k, v, g, beta, unit_q, unit_k = (_fold(x) for x in (q, k, v, g, beta, unit_q, unit_k))
    since_start, between = _decays(g)
    between = between * unit_k.mT
    system = torch.bmm(k, k.mT) * (between * (beta * unit_k))
    one = torch.eye(CHUNK, dtype=k.dtype, device=k.device)
    inverse = torch.linalg.solve_triangular(system.mT, one, upper=True, left=False, unitriangular=True).mT
    terms = Chunk(
        q=q * (unit_q * since_start),
        a=torch.bmm(q, k.mT) * (between * unit_q),
        u=torch.bmm(inverse * beta.mT, v),
        w=torch.bmm(inverse * (beta * unit_k * since_start).mT, k),
        k=k * between[:, -1, :, None],
        decay=since_start[:, -1:],
    )
    return [Chunk(*parts) for parts in zip(*(x.split(together) for x in terms), strict=True)]


def _fold(x: Float[Tensor, "batch token head channel"]) -> Float[Tensor, "chunk_batch_head chunk_token channel"]:
    """Tokens in chunks of 32, filled with zeros, and the chunks along the first axis."""
    if short := -x.shape[1] % CHUNK:
        x = F.pad(x, (0, 0, 0, 0, 0, short))
    return x.unflatten(1, (-1, CHUNK)).permute(1, 0, 3, 2, 4).flatten(0, 2)


def _inverse_norm(x: Float[Tensor, "*batch channel"]) -> Float[Tensor, "*batch 1"]:
    """What l2norm multiplies x by."""
    return torch.rsqrt(torch.linalg.vector_norm(x, dim=-1, keepdim=True).square() + L2_EPS)


def _decays(g: Float[Tensor, "chunk token 1"]) -> tuple[Tensor, Tensor]:
    """e^{G_i} [chunk, token, 1], and e^{G_i - G_j} for j <= i, else 0 [chunk, token, token].

    The sum G is float64: its differences are small beside it, and float32 would lose their last digits.
    """
    total = g.double().cumsum(1)
    past = torch.ones(CHUNK, CHUNK, dtype=torch.bool, device=g.device).tril()
    between = torch.where(past, (total - total.mT).to(g.dtype), -torch.inf)
    return total.to(g.dtype).exp(), between.exp()


def _one_token(
    state: Float[Tensor, "batch_head key value"],
    q: Float[Tensor, "batch 1 head key"],
    k: Float[Tensor, "batch 1 head key"],
    v: Float[Tensor, "batch 1 head value"],
    g: Float[Tensor, "batch 1 head"],
    beta: Float[Tensor, "batch 1 head"],
) -> tuple[Float[Tensor, "batch 1 head value"], Float[Tensor, "batch_head key value"]]:
    """One token from the state before it, which is read once for k and q together."""
    kq = l2norm(torch.cat([k, q], dim=1)).transpose(1, 2).flatten(0, 1)
    k, q = kq.split(1, dim=1)
    state = g.exp().reshape(-1, 1, 1) * state
    recalled, read = torch.bmm(kq, state).split(1, dim=1)
    written = beta.reshape(-1, 1, 1) * (v.reshape(recalled.shape) - recalled)
    output = (read + torch.bmm(q, k.mT) * written) * q.shape[2] ** -0.5
    return output.view(v.shape), torch.addcmul(state, k.mT, written)
