"""The Trigger by the Triton kernels of kernels.py, forward and backward.

q, k, v and weight_linear enter the matrix products in bfloat16 where all four are bfloat16 (the products are then exact
and summed in float32), in float32 otherwise. On the way back the gradients that meet weight_linear are rounded to the
same dtype. Everything else is float32.
"""

from typing import Any, NamedTuple

import torch
import triton
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from nirvana_mri.backbone.ops.precision import at_least_float32
from nirvana_mri.backbone.ops.trigger import kernels
from nirvana_mri.backbone.ops.trigger.gradient import BankGradient, through_learning, through_prediction
from nirvana_mri.backbone.ops.trigger.naive import LAYER_NORM_EPS, TriggerBank, TriggerLogits
from nirvana_mri.backbone.ops.trigger.products import network_after

# Tokens in a tile and warps, at 64 concepts: sm_90 then keeps everything in registers (a test looks).
SHAPES = {
    "learn_kernel": (128, 8),
    "predict_kernel": (64, 4),
    "prediction_gradient_kernel": (64, 4),
    "learning_gradient_kernel": (16, 4),
    "key_gradient_kernel": (64, 4),
}
FLOAT32_SHAPE = (16, 8)
STAGES = 2
BANK_TILE = 512  # tokens, for the bank's gradient


def trigger_update_triton(
    q: Float[Tensor, "*token concept"],
    k: Float[Tensor, "*token concept"],
    v: Float[Tensor, "*token concept"],
    logits: TriggerLogits,
    bank: TriggerBank,
    lr_linear: float,
    lr_ln: float,
) -> tuple[Float[Tensor, "*token concept"], TriggerLogits]:
    """The task vector, in the dtype of q, and the logits after learning k -> v, in float32."""
    task_vector, *learned = _Update.apply(lr_linear, lr_ln, q, k, v, *logits, *bank)
    return task_vector, TriggerLogits(*learned) if learned else logits


class _Update(torch.autograd.Function):
    """Keeps its inputs, the learned logits and z [token concept] before and after learning."""

    @staticmethod
    def forward(ctx: Any, lr_linear: float, lr_ln: float, *tensors: Tensor) -> tuple[Tensor, ...]:
        call = _Call.of(tensors, lr_linear, lr_ln)
        task_vector, after, z, z_after = _forward(call)
        ctx.rates = lr_linear, lr_ln
        ctx.save_for_backward(*tensors, *after, z, z_after)
        learned = [p.view(x.shape) for p, x in zip(after, tensors[3:7], strict=True)] if call.learns else []
        return task_vector.view(tensors[0].shape), *learned

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_task: Tensor, *g_learned: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # read once: checkpointing recomputes on every access
        tensors = saved[:11]
        *after, z, z_after = saved[11:]
        call = _Call.of(tensors, *ctx.rates)
        arriving = TriggerLogits(*map(_rows, g_learned or map(torch.zeros_like, call.before)))
        for_bank = any(ctx.needs_input_grad[9:])
        gradients, bank = _backward(call, TriggerLogits(*after), z, z_after, _rows(g_task), arriving, for_bank)
        shaped = [g if g is None else g.view(x.shape).to(x.dtype) for g, x in zip(gradients, tensors[:7], strict=True)]
        return None, None, *shaped, *bank


class _Call(NamedTuple):
    """The arguments as the kernels take them: [token channel], q, k and v of one stride, A as [logit in out]."""

    q: Tensor
    k: Tensor
    v: Tensor
    before: TriggerLogits
    bank: TriggerBank
    matrices: Tensor
    lr_linear: float
    lr_ln: float

    @classmethod
    def of(cls, tensors: tuple[Tensor, ...], lr_linear: float, lr_ln: float) -> "_Call":
        low = all(x.dtype == torch.bfloat16 for x in (*tensors[:3], tensors[7]))
        dtype = torch.bfloat16 if low else torch.float32
        q, k, v = (x.reshape(-1, x.shape[-1]).to(dtype) for x in tensors[:3])
        if not q.stride() == k.stride() == v.stride() or q.stride(1) != 1:
            q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        bank = TriggerBank(*(x.contiguous() for x in tensors[7:]))
        matrices = bank.weight_linear.permute(2, 0, 1).to(dtype).contiguous()
        return cls(q, k, v, TriggerLogits(*map(_rows, tensors[3:7])), bank, matrices, lr_linear, lr_ln)

    @property
    def learns(self) -> bool:
        return bool(self.lr_linear or self.lr_ln)

    @property
    def tables(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.bank.weight_ln, self.bank.bias_linear, self.bank.bias_ln

    def new_vectors(self, count: int) -> list[Tensor]:
        return [torch.empty(self.q.shape, dtype=torch.float32, device=self.q.device) for _ in range(count)]

    def launch(self, kernel: Any, *arguments: Any, **constants: Any) -> None:
        tokens, concepts = self.q.shape
        options = launch_options(kernel.__name__, concepts, self.matrices.shape[0], self.matrices.dtype)
        if tokens:
            with torch.cuda.device_of(self.q):
                kernel[(triton.cdiv(tokens, options["BLOCK"]),)](*arguments, **options, **constants)

    @property
    def arithmetic(self) -> dict[str, Any]:
        return arithmetic(self.matrices.dtype)


def launch_options(kernel: str, concepts: int, logits: int, dtype: torch.dtype) -> dict[str, int]:
    """What every kernel is compiled for: its sizes, and how many tokens and warps work together."""
    padded, padded_logits = (max(16, triton.next_power_of_2(n)) for n in (concepts, logits))
    block, warps = SHAPES[kernel] if dtype == torch.bfloat16 else FLOAT32_SHAPE
    block = max(16, min(block, block * 64 // padded))
    sizes = dict(C=concepts, L=logits, CB=padded, LB=padded_logits)
    return sizes | dict(BLOCK=block, num_warps=warps, num_stages=STAGES)


def arithmetic(dtype: torch.dtype) -> dict[str, Any]:
    """How the small float32 products are made; beside bfloat16 on the matrix units, each in three parts."""
    return dict(PRECISION="tf32x3" if dtype == torch.bfloat16 else "ieee", EPS=LAYER_NORM_EPS)


def _rows(x: Float[Tensor, "*token channel"]) -> Float[Tensor, "tokens channel"]:
    return x.reshape(-1, x.shape[-1]).contiguous()


def _forward(call: _Call) -> tuple[Tensor, TriggerLogits, Tensor, Tensor]:
    """The task vector, the logits it was predicted with, z before and after learning."""
    q, k, v, before = call.q, call.k, call.v, call.before
    tokens, stride = q.shape[0], q.stride(0)
    z, inner, z_after = call.new_vectors(3)
    task_vector = torch.empty_like(z_after, dtype=q.dtype)
    after = before
    if call.learns:
        after = TriggerLogits(*map(torch.empty_like, before))
        call.launch(
            kernels.learn_kernel,
            *(k, v, stride, *before, call.matrices, *call.tables),
            *(after.weight_ln, after.bias_linear, after.bias_ln, z, inner, tokens, call.lr_linear, call.lr_ln),
            **call.arithmetic,
        )
    call.launch(
        kernels.predict_kernel,
        *(q, k, stride, before.weight_linear, inner, call.matrices, *call.tables),
        *(task_vector, *after, z_after, tokens, call.lr_linear),
        LEARNS=call.learns,
        **call.arithmetic,
    )
    return task_vector, after, z, z_after


def _backward(
    call: _Call,
    after: TriggerLogits,
    z: Tensor,
    z_after: Tensor,
    g_task: Tensor,
    arriving: TriggerLogits,
    for_bank: bool,
) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """Gradients of q, k, v and the logits, and of the bank where somebody asks for it."""
    q, k, v, before = call.q, call.k, call.v, call.before
    tokens, stride = q.shape[0], q.stride(0)
    g_after = TriggerLogits(*map(torch.empty_like, before))
    gq, (g_inner,) = torch.empty_like(g_task, dtype=q.dtype), call.new_vectors(1)
    call.launch(
        kernels.prediction_gradient_kernel,
        *(q, k, stride, after.weight_linear, after.weight_ln, z_after, call.matrices, *call.tables),
        *(g_task, *arriving, gq, *g_after, g_inner, tokens),
        LEARNS=call.learns,
        **call.arithmetic,
    )
    bank: list[Tensor | None] = [None] * 4
    if for_bank:
        bank = _bank_gradient(call, after, z, z_after, g_task, g_after, g_inner)
    if not call.learns:
        return [gq, None, None, *g_after], bank
    g_before = TriggerLogits(*map(torch.empty_like, before))
    gk, gv = torch.empty_like(gq), torch.empty_like(gq)
    g_error, gz, inner = call.new_vectors(3)
    call.launch(
        kernels.learning_gradient_kernel,
        *(k, v, stride, before.weight_ln, before.bias_ln, z, *call.tables, *g_after[1:], g_inner, g_error, gz, inner),
        *(*g_before[1:], tokens, call.lr_linear, call.lr_ln),
        **call.arithmetic,
    )
    call.launch(
        kernels.key_gradient_kernel,
        *(k, stride, before.weight_linear, call.matrices, g_after.weight_linear, g_error, gz, inner),
        *(gk, gv, g_before.weight_linear, tokens, call.lr_linear),
    )
    return [gq, gk, gv, *g_before], bank


def _bank_gradient(
    call: _Call,
    after: TriggerLogits,
    z: Tensor,
    z_after: Tensor,
    g_task: Tensor,
    g_after: TriggerLogits,
    g_inner: Tensor,
) -> list[Tensor | None]:
    """In torch, tile by tile, with the formulas that `tiled` uses."""
    bank = TriggerBank(*(at_least_float32(x) for x in call.bank))
    total = BankGradient(bank)
    rows = (call.q, call.k, call.v, *call.before, *after, *g_after, z, z_after, g_task, g_inner)
    for q, k, v, *rest in zip(*(at_least_float32(x).split(BANK_TILE) for x in rows), strict=True):
        p, n, g = (TriggerLogits(*rest[at : at + 4]) for at in (0, 4, 8))
        z_, z_after_, g_task_, g_inner_ = rest[12:]
        predicting = through_prediction(*network_after(z_after_, n, bank), g_task_)
        total.add(predicting, n)
        total.add_matrix(q, _outer(predicting.linear, n.weight_linear))
        if not call.learns:
            continue
        rates = call.lr_linear, call.lr_ln
        learning, step = through_learning(k - v, network_after(z_, p, bank), p, g, g_inner_, bank, *rates)
        total.add(learning, p)
        total.add(step, g, -call.lr_linear, -call.lr_ln)
        of_product = _outer(learning.linear, p.weight_linear)
        total.add_matrix(k, of_product.sub_(_outer(step.linear, g.weight_linear), alpha=call.lr_linear))
    return [g.to(x.dtype) for g, x in zip(total.total, call.bank, strict=True)]


def _outer(d: Float[Tensor, "token concept"], p: Float[Tensor, "token logit"]) -> Float[Tensor, "token concept_logit"]:
    return (d[:, :, None] * p[:, None]).flatten(1)
