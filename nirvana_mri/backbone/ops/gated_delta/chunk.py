"""The gated delta rule in chunks of tokens: the same numbers as naive.py, by matrix products."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nirvana_mri.backbone.ops.gated_delta.naive import L2_EPS, l2norm

CHUNK = 64


def gated_delta_rule_chunk(
    q: Float[Tensor, "batch token head key"],
    k: Float[Tensor, "batch token head key"],
    v: Float[Tensor, "batch token head value"],
    g: Float[Tensor, "batch token head"],
    beta: Float[Tensor, "batch token head"],
    state: Float[Tensor, "batch head key value"] | None = None,
) -> tuple[Float[Tensor, "batch token head value"], Float[Tensor, "batch head key value"]]:
    """Outputs of every token and the last state; arguments as in gated_delta_rule_naive, any number of tokens.

    Only the state passes from chunk to chunk. Numbers per token and matrices of tokens are made for all chunks at once;
    everything of the size of q, k and v is made inside the loop and stays in the processor's cache. A single token,
    which is a step of generation, takes the recurrence itself.
    """
    batch, tokens, heads, key = q.shape
    before = k.new_zeros(batch * heads, key, v.shape[3]) if state is None else state.flatten(0, 1)
    if tokens == 1:
        output, after = _one_token(before, q, k, v, g, beta)
        return output, after.unflatten(0, (batch, heads))
    # split, not slices: the gradient of a slice is a whole array of zeros.
    rows = zip(*(x.split(CHUNK, dim=1) for x in (q, k, v)), strict=True)
    numbers = (_inverse_norm(q) * key**-0.5, _inverse_norm(k), beta[..., None])
    factors = zip(*(_heads_first(x).split(CHUNK, dim=1) for x in numbers), strict=True)
    outputs = []
    for rows_, factors_, decays in zip(rows, factors, _decays(_heads_first(g[..., None])), strict=True):
        output, before = _one_chunk(before, *map(_heads_first, rows_), *factors_, *decays)
        outputs.append(output.unflatten(0, (batch, heads)).transpose(1, 2))
    return torch.cat(outputs, dim=1), before.unflatten(0, (batch, heads))


def _heads_first(x: Float[Tensor, "batch token head channel"]) -> Float[Tensor, "batch_head token channel"]:
    return x.transpose(1, 2).flatten(0, 1)


def _inverse_norm(x: Float[Tensor, "*batch channel"]) -> Float[Tensor, "*batch 1"]:
    """What l2norm multiplies x by."""
    return torch.rsqrt(torch.linalg.vector_norm(x, dim=-1, keepdim=True).square() + L2_EPS)


def _decays(g: Float[Tensor, "batch_head token 1"]) -> Iterator[tuple[Tensor, Tensor]]:
    """Of each chunk: e^{G_i} [.., token, 1], and e^{G_i - G_j} for j <= i, else 0 [.., token, token].

    G is the sum of g since the chunk began, in float64: its differences are small beside it, and float32 would lose
    their last digits.
    """
    tokens = g.shape[1]
    whole = F.pad(g.double(), (0, 0, 0, -tokens % CHUNK)).unflatten(1, (-1, CHUNK)).transpose(0, 1)
    total = whole.cumsum(2)
    past = torch.ones(CHUNK, CHUNK, dtype=torch.bool, device=g.device).tril()
    between = torch.where(past, (total - total.mT).to(g.dtype), -torch.inf).exp()
    for number, pair in enumerate(zip(total.to(g.dtype).exp().unbind(), between.unbind(), strict=True)):
        length = min(CHUNK, tokens - number * CHUNK)
        yield pair if length == CHUNK else (pair[0][:, :length], pair[1][:, :length, :length])


def _one_chunk(
    state: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    factor_q: Tensor,
    factor_k: Tensor,
    beta: Tensor,
    since_start: Tensor,
    between: Tensor,
) -> tuple[Float[Tensor, "batch_head token value"], Float[Tensor, "batch_head key value"]]:
    """One chunk from the state before it.

    What token i writes is r_i = beta_i (v_i - e^{G_i} S^T k_i - sum_{j<i} e^{G_i - G_j} (k_i . k_j) r_j), where G is
    the running sum of g: a unit triangular system, solved at once for all columns of r. It is solved transposed, as
    R^T A^T = B^T: row-major memory is what the library takes without a copy, and the call is three times as fast.
    """
    q, k = q * factor_q, k * factor_k
    system = torch.bmm(k, k.mT) * (between * beta)
    target = beta * torch.baddbmm(v, k * since_start, state, alpha=-1)
    written = torch.linalg.solve_triangular(system.mT, target.mT, upper=True, left=False, unitriangular=True).mT
    inside = torch.bmm(q, k.mT) * between
    output = torch.bmm(inside, written).baddbmm_(q * since_start, state)
    to_end = between[:, -1, :, None]
    return output, (since_start[:, -1:] * state).baddbmm_((k * to_end).mT, written)


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
