"""The gated delta rule token by token in C++ (recurrence.cpp): the fastest form on a CPU."""

import ctypes
import functools

import torch
from jaxtyping import Float
from torch import Tensor

from nirvana_mri.backbone.ops.gated_delta.build import library
from nirvana_mri.backbone.ops.gated_delta.recompute import with_recomputed_gradients
from nirvana_mri.backbone.ops.gated_delta.shapes import check_dtype, check_shapes

FUNCTIONS = {torch.float32: "gated_delta_rule_float32", torch.float64: "gated_delta_rule_float64"}


def gated_delta_rule_cpp(
    q: Float[Tensor, "batch token head key"],
    k: Float[Tensor, "batch token head key"],
    v: Float[Tensor, "batch token head value"],
    g: Float[Tensor, "batch token head"],
    beta: Float[Tensor, "batch token head"],
    state: Float[Tensor, "batch head key value"] | None = None,
) -> tuple[Float[Tensor, "batch token head value"], Float[Tensor, "batch head key value"]]:
    """Outputs of every token and the last state; arguments as in gated_delta_rule_naive, float32 or float64.

    As many threads as torch has; their number changes no bit. Gradients come from the chunked form.
    """
    return with_recomputed_gradients(_forward, q, k, v, g, beta, state)


def _forward(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, state: Tensor | None
) -> tuple[Float[Tensor, "batch token head value"], Float[Tensor, "batch head key value"]]:
    check_shapes(q, k, v, g, beta, state)
    check_dtype(q.dtype, k, v, g, beta, state)
    batch, tokens, heads, key = q.shape
    output = torch.empty(v.shape, dtype=v.dtype)
    after = torch.empty(batch, heads, key, v.shape[3], dtype=v.dtype)
    given = [None if x is None else x.detach().contiguous() for x in (q, k, v, g, beta, state)]
    arrays = [ctypes.c_void_p(None if x is None else x.data_ptr()) for x in (*given, output, after)]
    sizes = [ctypes.c_int64(n) for n in (batch, tokens, heads, key, v.shape[3], torch.get_num_threads())]
    if library()[FUNCTIONS[q.dtype]](*arrays, *sizes, _team()) != 0:
        raise MemoryError(f"gated_delta_rule: no memory for {heads * batch} states of {key}x{v.shape[3]}")
    return output, after


@functools.cache
def _team() -> ctypes.c_void_p:
    """The address of GOMP_parallel in the OpenMP that torch itself runs on; null where it runs on another kind."""
    try:
        return ctypes.cast(ctypes.CDLL(torch._C.__file__).GOMP_parallel, ctypes.c_void_p)
    except (OSError, AttributeError):
        return ctypes.c_void_p(None)
