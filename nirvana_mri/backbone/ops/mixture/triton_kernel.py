"""The mixture in Triton: one pass over memory forward, one backward; a program for each token, float32 inside."""

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 2048  # channels at a time


def mix_branches_triton(
    delta: Float[Tensor, "*token channel"],
    attention: Float[Tensor, "*token channel"],
    correction: Float[Tensor, "*token channel"],
    logit_attention: Float[Tensor, "*token 1"],
    logit_delta: Float[Tensor, "*token 1"],
) -> tuple[Float[Tensor, "*token channel"], Float[Tensor, "*token 1"], Float[Tensor, "*token 1"]]:
    """The mixture in the dtype of delta and the gates in that of their logits, as in mix_branches_naive."""
    mixed, t, t2 = _Mixture.apply(delta, attention, correction, logit_attention, logit_delta)
    return mixed, t, t2


class _Mixture(torch.autograd.Function):
    """Keeps its inputs: the gates are made again from their logits, unrounded."""

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> tuple[Tensor, ...]:
        inputs = tuple(x.contiguous() for x in inputs)
        mixed, t, t2 = (torch.empty_like(inputs[at]) for at in (0, 3, 4))
        _launch(forward_kernel, *inputs, mixed, t, t2)
        ctx.save_for_backward(*inputs)
        return mixed, t, t2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *arriving: Tensor) -> tuple[Tensor, ...]:
        inputs = ctx.saved_tensors
        gradients = tuple(torch.empty_like(x) for x in inputs)
        _launch(backward_kernel, *inputs, *(g.contiguous() for g in arriving), *gradients)
        return gradients


def _launch(kernel: Any, *tensors: Tensor) -> None:
    channels = tensors[0].shape[-1]
    tokens = tensors[0].numel() // channels
    if tokens:
        with torch.cuda.device_of(tensors[0]):
            kernel[(tokens,)](*tensors, CHANNELS=channels, BLOCK=min(BLOCK, triton.next_power_of_2(channels)))


@triton.jit
@no_type_check
def _load(pointer, token, at, CHANNELS: tl.constexpr):
    return tl.load(pointer + token * CHANNELS + at, mask=at < CHANNELS, other=0.0).to(tl.float32)


@triton.jit
@no_type_check
def _store(pointer, token, at, x, CHANNELS: tl.constexpr):
    tl.store(pointer + token * CHANNELS + at, x.to(pointer.dtype.element_ty), mask=at < CHANNELS)


@triton.jit
@no_type_check
def _gate(pointer, token):
    return 1.0 / (1.0 + tl.exp(-tl.load(pointer + token).to(tl.float32)))


@triton.jit
@no_type_check
def forward_kernel(
    delta, attention, correction, logit_attention, logit_delta, mixed, t_ptr, t2_ptr,
    CHANNELS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    t, t2 = _gate(logit_attention, token), _gate(logit_delta, token)
    tl.store(t_ptr + token, t.to(t_ptr.dtype.element_ty))
    tl.store(t2_ptr + token, t2.to(t2_ptr.dtype.element_ty))
    for first in range(0, CHANNELS, BLOCK):
        at = first + tl.arange(0, BLOCK)
        x = t2 * _load(delta, token, at, CHANNELS) + t * _load(attention, token, at, CHANNELS)
        _store(mixed, token, at, x + t * t2 * _load(correction, token, at, CHANNELS), CHANNELS)


@triton.jit
@no_type_check
def backward_kernel(
    delta, attention, correction, logit_attention, logit_delta, g_mixed, g_t, g_t2,
    g_delta, g_attention, g_correction, g_logit_attention, g_logit_delta,
    CHANNELS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    t, t2 = _gate(logit_attention, token), _gate(logit_delta, token)
    along_t = tl.zeros((BLOCK,), dtype=tl.float32)
    along_t2 = tl.zeros((BLOCK,), dtype=tl.float32)
    for first in range(0, CHANNELS, BLOCK):
        at = first + tl.arange(0, BLOCK)
        g = _load(g_mixed, token, at, CHANNELS)
        corrected = _load(correction, token, at, CHANNELS)
        along_t += g * (_load(attention, token, at, CHANNELS) + t2 * corrected)
        along_t2 += g * (_load(delta, token, at, CHANNELS) + t * corrected)
        _store(g_delta, token, at, t2 * g, CHANNELS)
        _store(g_attention, token, at, t * g, CHANNELS)
        _store(g_correction, token, at, t * t2 * g, CHANNELS)
    of_t = tl.load(g_t + token).to(tl.float32) + tl.sum(along_t, 0)
    of_t2 = tl.load(g_t2 + token).to(tl.float32) + tl.sum(along_t2, 0)
    tl.store(g_logit_attention + token, (of_t * t * (1.0 - t)).to(g_logit_attention.dtype.element_ty))
    tl.store(g_logit_delta + token, (of_t2 * t2 * (1.0 - t2)).to(g_logit_delta.dtype.element_ty))
