"""The gated delta rule, one token at a time: the definition that the fast forms are compared with."""

import torch
from jaxtyping import Float
from torch import Tensor

L2_EPS = 1e-6


def l2norm(x: Float[Tensor, "*batch channel"]) -> Float[Tensor, "*batch channel"]:
    """x / sqrt(sum x^2 + 1e-6) along the last axis: fla-core's form since 0.4; a zero row stays zero."""
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + L2_EPS)


def gated_delta_rule_naive(
    q: Float[Tensor, "batch token head key"],
    k: Float[Tensor, "batch token head key"],
    v: Float[Tensor, "batch token head value"],
    g: Float[Tensor, "batch token head"],
    beta: Float[Tensor, "batch token head"],
    state: Float[Tensor, "batch head key value"] | None = None,
) -> tuple[Float[Tensor, "batch token head value"], Float[Tensor, "batch head key value"]]:
    """Outputs of every token and the last state, for raw (not yet normalised) q and k.

    g is the logarithm of the decay, beta the writing strength. With q and k l2-normalised and q scaled by
    key^-0.5:  S *= exp(g);  r = (v - S^T k) * beta;  S += k r^T;  o = S^T q.
    Source: Gated Delta Networks (arXiv 2412.06464), equation 10.
    """
    q = l2norm(q) * q.shape[-1] ** -0.5
    k = l2norm(k)
    if state is None:
        state = k.new_zeros(k.shape[0], k.shape[2], k.shape[3], v.shape[3])
    outputs = []
    for t in range(q.shape[1]):
        state = state * g[:, t].exp()[..., None, None]
        recalled = torch.einsum("bhkv,bhk->bhv", state, k[:, t])
        written = (v[:, t] - recalled) * beta[:, t, :, None]
        state = state + torch.einsum("bhk,bhv->bhkv", k[:, t], written)
        outputs.append(torch.einsum("bhkv,bhk->bhv", state, q[:, t]))
    return torch.stack(outputs, dim=1), state
