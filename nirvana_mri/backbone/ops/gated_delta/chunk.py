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

    Only the state passes from chunk to chunk. All else of a chunk is made inside the loop, so that it stays in the
    processor's cache; making all chunks at once is slower on a CPU although it needs fewer calls.
    """
    if state is None:
        state = k.new_zeros(k.shape[0], k.shape[2], k.shape[3], v.shape[3])
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    g, beta = g.transpose(1, 2), beta.transpose(1, 2)
    outputs = []
    for start in range(0, q.shape[2], CHUNK):
        here = slice(start, start + CHUNK)
        output, state = _one_chunk(q[:, :, here], k[:, :, here], v[:, :, here], g[:, :, here], beta[:, :, here], state)
        outputs.append(output)
    return torch.cat(outputs, dim=2).transpose(1, 2), state


def _one_chunk(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, state: Tensor
) -> tuple[Float[Tensor, "batch head token value"], Float[Tensor, "batch head key value"]]:
    """One chunk (axes batch head token ...) from the state before it.

    What token i writes is r_i = beta_i (v_i - e^{G_i} S^T k_i - sum_{j<i} e^{G_i - G_j} (k_i . k_j) r_j), where G is
    the running sum of g: a unit triangular system, solved at once for all columns of r.
    """
    q = l2norm(q) * q.shape[-1] ** -0.5
    k = l2norm(k)
    beta = beta[..., None]
    since_start, between = _decays(g)
    inside = k.transpose(-1, -2)
    system = (k @ inside) * between * beta
    written = torch.linalg.solve_triangular(
        system, beta * (v - since_start * (k @ state)), upper=False, unitriangular=True
    )
    output = since_start * (q @ state) + ((q @ inside) * between) @ written
    to_end = between[..., -1, :, None]
    state = since_start[..., -1:, :] * state + (k * to_end).transpose(-1, -2) @ written
    return output, state


def _decays(g: Float[Tensor, "batch head token"]) -> tuple[Tensor, Tensor]:
    """e^{G_i} [.., token, 1], and e^{G_i - G_j} for j <= i, else 0 [.., token, token].

    The running sum is float64: its differences are small beside it, and float32 would lose their last digits.
    """
    total = g.double().cumsum(-1)
    future = torch.ones(g.shape[-1], g.shape[-1], dtype=torch.bool, device=g.device).triu(1)
    between = (total[..., :, None] - total[..., None, :]).to(g.dtype).masked_fill(future, -torch.inf)
    return total.to(g.dtype).exp()[..., None], between.exp()
