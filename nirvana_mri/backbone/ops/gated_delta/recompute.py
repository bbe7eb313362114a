"""Gradients for the implementations that have only a forward pass: computed anew, through the chunked form."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nirvana_mri.backbone.ops.gated_delta.chunk import gated_delta_rule_chunk
from nirvana_mri.backbone.ops.precision import at_least_float32, without_autocast

Forward = Callable[..., tuple[Tensor, Tensor]]


def with_recomputed_gradients(forward: Forward, *inputs: Tensor | None) -> tuple[Tensor, Tensor]:
    """forward(*inputs), an output and a state; their gradients, where needed, come from the chunked form."""
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs):
        return _Recomputed.apply(forward, *inputs)
    return forward(*inputs)


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, forward: Forward, *inputs: Tensor | None) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(*inputs)
        return forward(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[1:]
        inputs = [
            None if x is None else x.detach().requires_grad_(wanted)
            for x, wanted in zip(ctx.saved_tensors, needed, strict=True)
        ]
        with torch.enable_grad(), without_autocast(gradients[0].device):
            outputs = gated_delta_rule_chunk(*(x if x is None else at_least_float32(x) for x in inputs))  # type: ignore[arg-type]
            wide = [given.to(out.dtype) for given, out in zip(gradients, outputs, strict=True)]
            wanted = [x for x in inputs if x is not None and x.requires_grad]
            found = iter(torch.autograd.grad(outputs, wanted, wide))
        return None, *(next(found) if wanted else None for wanted in needed)
