"""The Trigger in tiles of tokens, without any token's own concept x concept matrix.

With Y[n, o, l] = sum_i x[n, i] A[i, o, l], the layer's output is sum_l Y p_A and the gradient for p_A is sum_o Y d:
one large product serves both, and the two contractions after it are cheap.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from nirvana_mri.backbone.ops.trigger.weights import LAYER_NORM_EPS, FastWeights, SlowWeights

TILE = 512  # tokens


def predict_tiled(
    slow: SlowWeights, fast: FastWeights, q: Float[Tensor, "*token concept"]
) -> Float[Tensor, "*token concept"]:
    """The task vector of every token; the same numbers as predict_naive."""
    tiles = zip(_fast_tiles(fast), _tiles(q), strict=True)
    return torch.cat([_predict(slow, *tile) for tile in tiles]).view(q.shape)


def update_tiled(
    slow: SlowWeights,
    fast: FastWeights,
    q: Float[Tensor, "*token concept"],
    k: Float[Tensor, "*token concept"],
    v: Float[Tensor, "*token concept"],
    rate_linear: float,
    rate_ln: float,
) -> tuple[Float[Tensor, "*token concept"], FastWeights]:
    """The task vector and the fast weights after learning k -> v, tile by tile; the same numbers as update_naive."""
    predicted, learned = [], []
    for fast_tile, q_tile, k_tile, v_tile in zip(_fast_tiles(fast), _tiles(q), _tiles(k), _tiles(v), strict=True):
        learned.append(_learn(slow, fast_tile, k_tile, v_tile, rate_linear, rate_ln))
        predicted.append(_predict(slow, learned[-1], q_tile))
    joined = (torch.cat(parts).view(p.shape) for parts, p in zip(zip(*learned, strict=True), fast, strict=True))
    return torch.cat(predicted).view(q.shape), FastWeights(*joined)


def _tiles(x: Float[Tensor, "*token channel"]) -> tuple[Tensor, ...]:
    return x.flatten(0, -2).split(TILE)


def _fast_tiles(fast: FastWeights) -> list[FastWeights]:
    return [FastWeights(*parts) for parts in zip(*(_tiles(p) for p in fast), strict=True)]


def _predict(slow: SlowWeights, fast: FastWeights, q: Tensor) -> Tensor:
    normed, _, scale, shift = _network(slow, fast, q, _product(slow, q))
    return scale * normed + shift + q


def _learn(
    slow: SlowWeights, fast: FastWeights, k: Tensor, v: Tensor, rate_linear: float, rate_ln: float
) -> FastWeights:
    product = _product(slow, k)
    normed, std, scale, shift = _network(slow, fast, k, product)
    error = scale * normed + shift + k - v
    inner = scale * error / std
    step_linear = torch.bmm(inner[:, None, :], product)[:, 0]
    return FastWeights(
        fast.weight_linear - rate_linear * step_linear,
        fast.weight_ln - rate_ln * (error * normed) @ slow.weight_ln,
        fast.bias_linear - rate_linear * inner @ slow.bias_linear,
        fast.bias_ln - rate_ln * error @ slow.bias_ln,
    )


def _product(slow: SlowWeights, x: Float[Tensor, "token concept"]) -> Float[Tensor, "token concept logit"]:
    bank = slow.weight_linear
    return (x @ bank.flatten(1)).unflatten(-1, bank.shape[1:])


def _network(slow: SlowWeights, fast: FastWeights, x: Tensor, product: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    z = torch.bmm(product, fast.weight_linear[..., None])[..., 0] + fast.bias_linear @ slow.bias_linear.T
    centred = z - z.mean(-1, keepdim=True)
    std = (centred.square().mean(-1, keepdim=True) + LAYER_NORM_EPS).sqrt()
    return centred / std, std, fast.weight_ln @ slow.weight_ln.T, fast.bias_ln @ slow.bias_ln.T
