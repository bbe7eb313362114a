"""The Trigger in tiles of tokens, without any token's own concept x concept matrix; the backward is written by hand.

With Y[n, o, l] = sum_i x[n, i] A[i, o, l], the layer's output is sum_l Y p_A and the gradient for p_A is sum_o Y d:
one large product for keys and queries serves both, and the contractions after it are cheap. Nothing of its size is
kept for the backward, which makes it again.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from nirvana_mri.backbone.ops.trigger.gradient import (
    BankGradient,
    add_to_logits,
    gradient_of_inner,
    through_learning,
    through_prediction,
)
from nirvana_mri.backbone.ops.trigger.naive import TriggerBank, TriggerLogits
from nirvana_mri.backbone.ops.trigger.products import Product, network, over_channels

TILE = 1024  # tokens


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
    learns = bool(lr_linear or lr_ln)
    tensors = (q, k, v, *logits, *bank) if learns else (q, *logits, *bank)
    function = _Update if learns else _Prediction
    if torch.is_grad_enabled() and any(x.requires_grad for x in tensors):
        outputs = function.apply(lr_linear, lr_ln, *tensors)
    else:
        outputs = function.run(lr_linear, lr_ln, tensors)
    task_vector, *learned = outputs
    return task_vector, TriggerLogits(*learned) if learned else logits


class _Update(torch.autograd.Function):
    """Learn, then predict. Keeps its inputs and the learned logits, which the next layer keeps anyway."""

    @staticmethod
    def run(lr_linear: float, lr_ln: float, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        bank = TriggerBank(*tensors[7:])
        rows = [_tiles(x) for x in tensors[:7]]
        product = Product(bank.weight_linear, 2 * len(rows[0][0]))
        results: list[tuple[Tensor, ...]] = []
        for q, k, v, *p in zip(*rows, strict=True):
            of_k, of_q = product(k, q)
            learned = _learn(k, v, of_k, TriggerLogits(*p), bank, lr_linear, lr_ln)
            results.append((_predict(q, of_q, learned, bank), *learned))
        return _join(results, (tensors[0], *tensors[3:7]))

    @staticmethod
    def forward(ctx: Any, lr_linear: float, lr_ln: float, *tensors: Tensor) -> tuple[Tensor, ...]:
        outputs = _Update.run(lr_linear, lr_ln, tensors)
        ctx.rates = lr_linear, lr_ln
        ctx.save_for_backward(*tensors, *outputs[1:])
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *arriving: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # read once: checkpointing recomputes on every access
        tensors, learned = saved[:11], saved[11:]
        bank = TriggerBank(*tensors[7:])
        rows = [_tiles(x) for x in (*tensors[:7], *learned, *arriving)]
        product = Product(bank.weight_linear, 2 * len(rows[0][0]))
        total = BankGradient(bank) if any(ctx.needs_input_grad[9:]) else None
        results = []
        for q, k, v, *rest in zip(*rows, strict=True):
            before, after, g_after = (TriggerLogits(*rest[at : at + 4]) for at in (0, 4, 9))
            results.append(_update_gradient(q, k, v, before, after, rest[8], g_after, bank, product, total, *ctx.rates))
        found = _join(results, tensors[:7])
        return None, None, *found, *(total.total if total else (None,) * 4)


class _Prediction(torch.autograd.Function):
    """With rates of 0."""

    @staticmethod
    def run(lr_linear: float, lr_ln: float, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        bank = TriggerBank(*tensors[5:])
        rows = [_tiles(x) for x in tensors[:5]]
        product = Product(bank.weight_linear, len(rows[0][0]))
        results: list[tuple[Tensor, ...]] = [
            (_predict(q, product(q)[0], TriggerLogits(*p), bank),) for q, *p in zip(*rows, strict=True)
        ]
        return _join(results, tensors[:1])

    @staticmethod
    def forward(ctx: Any, lr_linear: float, lr_ln: float, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(*tensors)
        return _Prediction.run(lr_linear, lr_ln, tensors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, arriving: Tensor) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors
        bank = TriggerBank(*tensors[5:])
        rows = [_tiles(x) for x in (*tensors[:5], arriving)]
        product = Product(bank.weight_linear, len(rows[0][0]))
        total = BankGradient(bank) if any(ctx.needs_input_grad[7:]) else None
        results = []
        for q, *p, g_task in zip(*rows, strict=True):
            results.append(_prediction_gradient(q, TriggerLogits(*p), g_task, bank, product, total))
        found = _join(results, tensors[:5])
        return None, None, *found, *(total.total if total else (None,) * 4)


def _tiles(x: Float[Tensor, "*token channel"]) -> tuple[Tensor, ...]:
    return x.reshape(-1, x.shape[-1]).split(TILE)


def _join(results: list[tuple[Tensor, ...]], like: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """One tensor of each kind from the tiles' tuples, each shaped as its counterpart in `like`."""
    if len(results) == 1:
        return tuple(part.view(x.shape) for part, x in zip(results[0], like, strict=True))
    return tuple(torch.cat(parts).view(x.shape) for parts, x in zip(zip(*results, strict=True), like, strict=True))


def _predict(q: Tensor, of_q: Tensor, logits: TriggerLogits, bank: TriggerBank) -> Tensor:
    normed, _, scale = network(of_q, logits, bank)
    return torch.addmm(q, logits.bias_ln, bank.bias_ln.T).addcmul_(scale, normed)


def _learn(
    k: Tensor, v: Tensor, of_k: Tensor, logits: TriggerLogits, bank: TriggerBank, lr_linear: float, lr_ln: float
) -> TriggerLogits:
    normed, inverse_std, scale = network(of_k, logits, bank)
    error = torch.addmm(k - v, logits.bias_ln, bank.bias_ln.T).addcmul_(scale, normed)
    inner = (scale * error).mul_(inverse_std)
    return TriggerLogits(
        over_channels(of_k, inner, logits.weight_linear, -lr_linear),
        torch.addmm(logits.weight_ln, error * normed, bank.weight_ln, alpha=-lr_ln),
        torch.addmm(logits.bias_linear, inner, bank.bias_linear, alpha=-lr_linear),
        torch.addmm(logits.bias_ln, error, bank.bias_ln, alpha=-lr_ln),
    )


def _prediction_gradient(
    q: Tensor, logits: TriggerLogits, g_task: Tensor, bank: TriggerBank, product: Product, total: BankGradient | None
) -> tuple[Tensor, ...]:
    """Gradients of q and the logits."""
    of_q = product(q)[0]
    factors = through_prediction(*network(of_q, logits, bank), g_task)
    g_logits = add_to_logits(TriggerLogits(*map(torch.zeros_like, logits)), of_q, factors, bank)
    outer = torch.mul(factors.linear[..., None], logits.weight_linear[:, None], out=of_q).flatten(1)
    if total:
        total.add(factors, logits)
        total.add_matrix(q, outer)
    return g_task + product.back(outer), *g_logits


def _update_gradient(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    before: TriggerLogits,
    after: TriggerLogits,
    g_task: Tensor,
    g_after: TriggerLogits,
    bank: TriggerBank,
    product: Product,
    total: BankGradient | None,
    lr_linear: float,
    lr_ln: float,
) -> tuple[Tensor, ...]:
    """Gradients of q, k, v and the logits before learning."""
    of_k, of_q = product(k, q)
    predicting = through_prediction(*network(of_q, after, bank), g_task)
    g_after = add_to_logits(g_after, of_q, predicting, bank)
    g_inner = gradient_of_inner(of_k, g_after, bank)
    learning, step = through_learning(
        k - v, network(of_k, before, bank), before, g_after, g_inner, bank, lr_linear, lr_ln
    )
    g_before = add_to_logits(g_after, of_k, learning, bank)
    # From here on the gradients of the products stand where the products stood.
    torch.mul(predicting.linear[..., None], after.weight_linear[:, None], out=of_q)
    torch.mul(learning.linear[..., None], before.weight_linear[:, None], out=of_k)
    of_k.addcmul_(step.linear[..., None], g_after.weight_linear[:, None], value=-lr_linear)
    outer = product.memory[: 2 * len(q)]
    if total:
        total.add(predicting, after)
        total.add(learning, before)
        total.add(step, g_after, -lr_linear, -lr_ln)
        total.add_matrix(torch.cat((k, q)), outer)
    back_k, back_q = product.back(outer).chunk(2)
    return g_task + back_q, learning.shift + back_k, -learning.shift, *g_before
