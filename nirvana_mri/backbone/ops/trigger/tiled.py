"""The Trigger in tiles of tokens, without any token's own concept x concept matrix.

With Y[n, o, l] = sum_i x[n, i] A[i, o, l], the layer's output is sum_l Y p_A and the gradient for p_A is sum_o Y d:
one large product serves both, and the two contractions after it are cheap.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from nirvana_mri.backbone.ops.trigger.naive import LAYER_NORM_EPS, TriggerBank, TriggerLogits

TILE = 512  # tokens


def trigger_update_tiled(
    q: Float[Tensor, "*token concept"],
    k: Float[Tensor, "*token concept"],
    v: Float[Tensor, "*token concept"],
    logits: TriggerLogits,
    bank: TriggerBank,
    lr_linear: float,
    lr_ln: float,
) -> tuple[Float[Tensor, "*token concept"], TriggerLogits]:
    """The task vector and the logits after learning k -> v, tile by tile; arguments as in trigger_update_naive."""
    predicted, learned = [], []
    for logits_, q_, k_, v_ in zip(_logit_tiles(logits), _tiles(q), _tiles(k), _tiles(v), strict=True):
        after = _learn(k_, v_, logits_, bank, lr_linear, lr_ln) if lr_linear or lr_ln else logits_
        learned.append(after)
        predicted.append(_predict(q_, after, bank))
    joined = (torch.cat(parts).view(p.shape) for parts, p in zip(zip(*learned, strict=True), logits, strict=True))
    return torch.cat(predicted).view(q.shape), TriggerLogits(*joined)


def _tiles(x: Float[Tensor, "*token channel"]) -> tuple[Tensor, ...]:
    return x.flatten(0, -2).split(TILE)


def _logit_tiles(logits: TriggerLogits) -> list[TriggerLogits]:
    return [TriggerLogits(*parts) for parts in zip(*(_tiles(p) for p in logits), strict=True)]


def _predict(q: Tensor, logits: TriggerLogits, bank: TriggerBank) -> Tensor:
    normed, _, scale, shift = _network(_product(q, bank), logits, bank)
    return scale * normed + shift + q


def _learn(
    k: Tensor, v: Tensor, logits: TriggerLogits, bank: TriggerBank, lr_linear: float, lr_ln: float
) -> TriggerLogits:
    product = _product(k, bank)
    normed, std, scale, shift = _network(product, logits, bank)
    error = scale * normed + shift + k - v
    inner = scale * error / std
    step_linear = torch.bmm(inner[:, None, :], product)[:, 0]
    return TriggerLogits(
        logits.weight_linear - lr_linear * step_linear,
        logits.weight_ln - lr_ln * (error * normed) @ bank.weight_ln,
        logits.bias_linear - lr_linear * inner @ bank.bias_linear,
        logits.bias_ln - lr_ln * error @ bank.bias_ln,
    )


def _product(x: Float[Tensor, "token concept"], bank: TriggerBank) -> Float[Tensor, "token concept logit"]:
    matrices = bank.weight_linear
    return (x @ matrices.flatten(1)).unflatten(-1, matrices.shape[1:])


def _network(product: Tensor, logits: TriggerLogits, bank: TriggerBank) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    z = torch.bmm(product, logits.weight_linear[..., None])[..., 0] + logits.bias_linear @ bank.bias_linear.T
    centred = z - z.mean(-1, keepdim=True)
    std = (centred.square().mean(-1, keepdim=True) + LAYER_NORM_EPS).sqrt()
    return centred / std, std, logits.weight_ln @ bank.weight_ln.T, logits.bias_ln @ bank.bias_ln.T
