"""The Trigger as the paper writes it: an own little network for every token. The definition, slow on purpose."""

import torch
from jaxtyping import Float
from torch import Tensor

from nirvana_mri.backbone.ops.trigger.weights import LAYER_NORM_EPS, FastWeights, SlowWeights


def predict_naive(
    slow: SlowWeights, fast: FastWeights, q: Float[Tensor, "*token concept"]
) -> Float[Tensor, "*token concept"]:
    """The task vector h_new = f(q), where f(x) = w * LN(x M + b) + c + x with each token's own M, b, w, c."""
    normed, _, scale, shift = _network(slow, fast, q)
    return scale * normed + shift + q


def learn_naive(
    slow: SlowWeights,
    fast: FastWeights,
    k: Float[Tensor, "*token concept"],
    v: Float[Tensor, "*token concept"],
    rate_linear: float,
    rate_ln: float,
) -> FastWeights:
    """Fast weights after one gradient step of each token towards f(k) = v.

    The gradient through the layer norm keeps only its scaling by 1 / std, as the authors' code does.
    """
    normed, std, scale, shift = _network(slow, fast, k)
    error = scale * normed + shift + k - v
    inner = scale * error / std
    return FastWeights(
        fast.weight_linear - rate_linear * torch.einsum("iol,...i,...o->...l", slow.weight_linear, k, inner),
        fast.weight_ln - rate_ln * (error * normed) @ slow.weight_ln,
        fast.bias_linear - rate_linear * inner @ slow.bias_linear,
        fast.bias_ln - rate_ln * error @ slow.bias_ln,
    )


def update_naive(
    slow: SlowWeights,
    fast: FastWeights,
    q: Float[Tensor, "*token concept"],
    k: Float[Tensor, "*token concept"],
    v: Float[Tensor, "*token concept"],
    rate_linear: float,
    rate_ln: float,
) -> tuple[Float[Tensor, "*token concept"], FastWeights]:
    """The task vector and the fast weights after learning k -> v: learn, then predict with what was learned."""
    fast = learn_naive(slow, fast, k, v, rate_linear, rate_ln)
    return predict_naive(slow, fast, q), fast


def _network(slow: SlowWeights, fast: FastWeights, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    matrix = torch.einsum("iol,...l->...io", slow.weight_linear, fast.weight_linear)
    z = torch.einsum("...i,...io->...o", x, matrix) + fast.bias_linear @ slow.bias_linear.T
    std = (z.var(-1, correction=0, keepdim=True) + LAYER_NORM_EPS).sqrt()
    normed = (z - z.mean(-1, keepdim=True)) / std
    return normed, std, fast.weight_ln @ slow.weight_ln.T, fast.bias_ln @ slow.bias_ln.T
