"""The gated delta rule in chunks of tokens: the same numbers as naive.py, by matrix products."""

import torch
from jaxtyping import Float
from torch import Tensor

from nirvana_mri.backbone.ops.gated_delta.naive import l2norm

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

    Only the state passes from chunk to chunk. All matrices of a chunk are made inside the loop, so that they stay in
    the processor's cache; making those of all chunks at once needs fewer calls and is slower on a CPU.
    """
    batch, _, heads, key = q.shape
    if state is None:
        state = k.new_zeros(batch, heads, key, v.shape[3])
    q, k, v, g, beta = (_heads_first(x) for x in (q, k, v, g[..., None], beta[..., None]))
    q, k = l2norm(q) * key**-0.5, l2norm(k)
    future = torch.ones(CHUNK, CHUNK, dtype=torch.bool, device=q.device).triu(1)
    outputs, state = [], state.flatten(0, 1)
    # split, not slices: the gradient of a slice is a whole array of zeros.
    for q_, k_, v_, g_, beta_ in zip(*(x.split(CHUNK, dim=1) for x in (q, k, v, g, beta)), strict=True):
        output, state = _one_chunk(q_, k_, v_, g_, beta_, state, future)
        outputs.append(output)
    joined = torch.cat(outputs, dim=1).unflatten(0, (batch, heads)).transpose(1, 2)
    return joined, state.unflatten(0, (batch, heads))


def _heads_first(x: Float[Tensor, "batch token head channel"]) -> Float[Tensor, "batch_head token channel"]:
    return x.transpose(1, 2).flatten(0, 1)


def _one_chunk(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, state: Tensor, future: Tensor
) -> tuple[Float[Tensor, "batch_head token value"], Float[Tensor, "batch_head key value"]]:
    """One chunk from the state before it; q and k normalised.

    What token i writes is r_i = beta_i (v_i - e^{G_i} S^T k_i - sum_{j<i} e^{G_i - G_j} (k_i . k_j) r_j), where G is
    the running sum of g: a unit triangular system, solved at once for all columns of r.
    """
    since_start, between = _decays(g, future)
    inside = k.transpose(1, 2)
    system = torch.bmm(k, inside) * (between * beta)
    target = beta * torch.baddbmm(v, k * since_start, state, alpha=-1)
    written = torch.linalg.solve_triangular(system, target, upper=False, unitriangular=True)
    output = torch.baddbmm(torch.bmm(q * since_start, state), torch.bmm(q, inside) * between, written)
    to_end = between[:, -1, :, None]
    state = torch.baddbmm(since_start[:, -1:] * state, (k * to_end).transpose(1, 2), written)
    return output, state


def _decays(g: Float[Tensor, "batch_head token 1"], future: Tensor) -> tuple[Tensor, Tensor]:
    """e^{G_i} [.., token, 1], and e^{G_i - G_j} for j <= i, else 0 [.., token, token].

    The running sum is float64: its differences are small beside it, and float32 would lose their last digits.
    """
    tokens = g.shape[1]
    total = g.double().cumsum(1)
    between = (total - total.transpose(1, 2)).to(g.dtype)
    return total.to(g.dtype).exp(), between.masked_fill(future[:tokens, :tokens], -torch.inf).exp()
