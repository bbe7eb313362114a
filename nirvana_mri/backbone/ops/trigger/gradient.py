"""The Trigger's backward for one tile of tokens, written by hand; one formula a line, in the notation of naive.py.

Forward, with z = sum_l p_l (k A_l) + b and n = LN(z) of standard deviation s: e = w n + c + k - v, d = w e / s; the
learned logits are p_A - rate d (k A), p_w - rate wl^T (e n), p_b - rate bl^T d, p_c - rate bb^T e.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from nirvana_mri.backbone.ops.trigger.naive import TriggerBank, TriggerLogits
from nirvana_mri.backbone.ops.trigger.products import over_channels, over_logits


class Factors(NamedTuple):
    """For one use of the logits: what stands opposite them in the bank's gradient. linear serves A and its bias."""

    linear: Float[Tensor, "token concept"]
    scale: Float[Tensor, "token concept"]
    shift: Float[Tensor, "token concept"]


class BankGradient:
    """The bank's gradient, summed over tiles; used only where somebody asks for it."""

    def __init__(self, bank: TriggerBank) -> None:
        self.total = TriggerBank(*(torch.zeros_like(x, memory_format=torch.contiguous_format) for x in bank))

    def add(self, factors: Factors, logits: TriggerLogits, rate_linear: float = 1.0, rate_ln: float = 1.0) -> None:
        """All but weight_linear: factor^T logits, times the rate."""
        self.total.weight_ln.addmm_(factors.scale.T, logits.weight_ln, alpha=rate_ln)
        self.total.bias_linear.addmm_(factors.linear.T, logits.bias_linear, alpha=rate_linear)
        self.total.bias_ln.addmm_(factors.shift.T, logits.bias_ln, alpha=rate_ln)

    def add_matrix(self, x: Float[Tensor, "token concept"], outer: Float[Tensor, "token concept_logit"]) -> None:
        """weight_linear: x^T and the gradient of Y."""
        self.total.weight_linear.flatten(1).addmm_(x.T, outer)


def through_prediction(
    normed: Tensor, inverse_std: Tensor, scale: Tensor, arriving: Float[Tensor, "token concept"]
) -> Factors:
    """From the task vector's gradient."""
    return Factors(_through_norm(arriving * scale, normed, inverse_std), arriving * normed, arriving)


def add_to_logits(
    gradient: TriggerLogits, product: Float[Tensor, "token concept logit"], factors: Factors, bank: TriggerBank
) -> TriggerLogits:
    """The gradient of the logits with the factors' share."""
    return TriggerLogits(
        over_channels(product, factors.linear, gradient.weight_linear),
        torch.addmm(gradient.weight_ln, factors.scale, bank.weight_ln),
        torch.addmm(gradient.bias_linear, factors.linear, bank.bias_linear),
        torch.addmm(gradient.bias_ln, factors.shift, bank.bias_ln),
    )


def gradient_of_inner(
    product: Float[Tensor, "token concept logit"], gradient: TriggerLogits, bank: TriggerBank
) -> Float[Tensor, "token concept"]:
    """From the learned logits' gradient; still to be multiplied by -lr_linear."""
    return torch.addmm(over_logits(product, gradient.weight_linear), gradient.bias_linear, bank.bias_linear.T)


def through_learning(
    residual: Float[Tensor, "token concept"],
    network: tuple[Tensor, Tensor, Tensor],
    logits: TriggerLogits,
    gradient: TriggerLogits,
    g_inner: Float[Tensor, "token concept"],
    bank: TriggerBank,
    lr_linear: float,
    lr_ln: float,
) -> tuple[Factors, Factors]:
    """From the learned logits' gradient: factors opposite the logits before learning, and opposite that gradient.

    residual: k - v; g_inner: as gradient_of_inner gives it.
    """
    normed, inverse_std, scale = network
    error = torch.addmm(residual, logits.bias_ln, bank.bias_ln.T).addcmul_(scale, normed)
    inner = (scale * error).mul_(inverse_std)
    g_step = (gradient.weight_ln @ bank.weight_ln.T).mul_(-lr_ln)  # of e n
    g_by_std = (g_inner * inverse_std).mul_(-lr_linear)
    g_error = (gradient.bias_ln @ bank.bias_ln.T).mul_(-lr_ln).addcmul_(g_step, normed).addcmul_(g_by_std, scale)
    g_scale = (g_by_std * error).addcmul_(g_error, normed)
    g_normed = (g_step * error).addcmul_(g_error, scale)
    g_std = (g_by_std * inner).mean(-1, keepdim=True)  # of s, divided by -concept
    g_z = _through_norm(g_normed, normed, inverse_std).addcmul_(g_std, normed, value=-1)
    return Factors(g_z, g_scale, g_error), Factors(inner, error * normed, error)


def _through_norm(gradient: Tensor, normed: Tensor, inverse_std: Tensor) -> Tensor:
    along = (gradient * normed).mean(-1, keepdim=True)
    return (gradient - gradient.mean(-1, keepdim=True)).addcmul_(normed, along, value=-1).mul_(inverse_std)
