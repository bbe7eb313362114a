"""The Trigger as the paper writes it: an own little network for every token. The definition, slow on purpose."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

LAYER_NORM_EPS = 1e-6


class TriggerBank(NamedTuple):
    """What training learns; one set for all layers. The last axis is contracted with a token's logits."""

    weight_linear: Float[Tensor, "concept_in concept logit"]
    weight_ln: Float[Tensor, "concept logit"]
    bias_linear: Float[Tensor, "concept logit"]
    bias_ln: Float[Tensor, "concept logit"]


class TriggerLogits(NamedTuple):
    """The fast weights: what every token learns at test time, handed from layer to layer, never between tokens."""

    weight_linear: Float[Tensor, "*token logit"]
    weight_ln: Float[Tensor, "*token logit"]
    bias_linear: Float[Tensor, "*token logit"]
    bias_ln: Float[Tensor, "*token logit"]


def trigger_update_naive(
    q: Float[Tensor, "*token concept"],
    k: Float[Tensor, "*token concept"],
    v: Float[Tensor, "*token concept"],
    logits: TriggerLogits,
    bank: TriggerBank,
    lr_linear: float,
    lr_ln: float,
) -> tuple[Float[Tensor, "*token concept"], TriggerLogits]:
    """The task vector h_new and the logits after learning k -> v: learn, then predict with what was learned.

    lr_linear moves weight_linear and bias_linear, lr_ln the other two; with both 0 nothing is learned.
    """
    if lr_linear or lr_ln:
        logits = learn(k, v, logits, bank, lr_linear, lr_ln)
    return predict(q, logits, bank), logits


def predict(
    q: Float[Tensor, "*token concept"], logits: TriggerLogits, bank: TriggerBank
) -> Float[Tensor, "*token concept"]:
    """The task vector h_new = f(q), where f(x) = w * LN(x M + b) + c + x with each token's own M, b, w, c."""
    normed, _, scale, shift = _network(q, logits, bank)
    return scale * normed + shift + q


def learn(
    k: Float[Tensor, "*token concept"],
    v: Float[Tensor, "*token concept"],
    logits: TriggerLogits,
    bank: TriggerBank,
    lr_linear: float,
    lr_ln: float,
) -> TriggerLogits:
    """The logits after one gradient step of each token towards f(k) = v.

    The gradient through the layer norm keeps only its scaling by 1 / std, as the authors' code does.
    """
    normed, std, scale, shift = _network(k, logits, bank)
    error = scale * normed + shift + k - v
    inner = scale * error / std
    return TriggerLogits(
        logits.weight_linear - lr_linear * torch.einsum("iol,...i,...o->...l", bank.weight_linear, k, inner),
        logits.weight_ln - lr_ln * (error * normed) @ bank.weight_ln,
        logits.bias_linear - lr_linear * inner @ bank.bias_linear,
        logits.bias_ln - lr_ln * error @ bank.bias_ln,
    )


def _network(x: Tensor, logits: TriggerLogits, bank: TriggerBank) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    matrix = torch.einsum("iol,...l->...io", bank.weight_linear, logits.weight_linear)
    z = torch.einsum("...i,...io->...o", x, matrix) + logits.bias_linear @ bank.bias_linear.T
    std = (z.var(-1, correction=0, keepdim=True) + LAYER_NORM_EPS).sqrt()
    normed = (z - z.mean(-1, keepdim=True)) / std
    return normed, std, logits.weight_ln @ bank.weight_ln.T, logits.bias_ln @ bank.bias_ln.T
