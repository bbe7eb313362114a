"""The gated delta rule: which implementation runs is said here, once, and can be asked for by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nirvana_mri.backbone.ops import available
from nirvana_mri.backbone.ops.gated_delta.naive import l2norm
from nirvana_mri.backbone.ops.precision import at_least_float32, without_autocast
from nirvana_mri.backbone.ops.registry import Implementation, Operation, register, runs_on

__all__ = ["OPERATION", "gated_delta_rule", "l2norm"]

FEW_TOKENS = 16


def _naive() -> Callable[..., Any]:
    from nirvana_mri.backbone.ops.gated_delta.naive import gated_delta_rule_naive

    return gated_delta_rule_naive


def _chunk() -> Callable[..., Any]:
    from nirvana_mri.backbone.ops.gated_delta.chunk import gated_delta_rule_chunk

    return gated_delta_rule_chunk


def _cpp() -> Callable[..., Any]:
    from nirvana_mri.backbone.ops.gated_delta.cpp import gated_delta_rule_cpp

    return gated_delta_rule_cpp


def _cpp_missing() -> str | None:
    from nirvana_mri.backbone.ops.gated_delta.build import missing

    return missing()


def _fla() -> Callable[..., Any]:
    from nirvana_mri.backbone.ops.gated_delta.fla_core import gated_delta_rule_fla

    return gated_delta_rule_fla


def _triton() -> Callable[..., Any]:
    from nirvana_mri.backbone.ops.gated_delta.triton_kernel import gated_delta_rule_triton

    return gated_delta_rule_triton


@dataclass(frozen=True)
class _ByTensor(Operation):
    """On CUDA the default also depends on the number of tokens and on the dtype; `rule` says how."""

    def order(self, tensor: Tensor) -> tuple[str, ...]:
        if tensor.is_cuda and tensor.shape[1] <= FEW_TOKENS:
            return ("triton", *self.preferred)
        if tensor.is_cuda and tensor.dtype in (torch.bfloat16, torch.float16):
            return ("fla", *self.preferred)
        return self.preferred


OPERATION = register(
    _ByTensor(
        "gated_delta_rule",
        (
            Implementation("naive", "the definition, token by token; any device", _naive),
            Implementation("chunk", "matrix products over chunks of 32 tokens; any device", _chunk),
            Implementation(
                "cpp",
                "token by token in C++, compiled here on first use; CPU, float32 and float64",
                _cpp,
                _cpp_missing,
                runs_on("cpu"),
            ),
            Implementation(
                "triton",
                "our kernel, token by token; CUDA, computes in float32",
                _triton,
                available.triton_missing,
                available.triton_serves,
            ),
            Implementation(
                "fla",
                "fla-core's kernels over chunks of 64 tokens; CUDA, bfloat16 and float16 (float32 through tf32)",
                _fla,
                available.fla_missing,
                available.fla_serves,
            ),
        ),
        preferred=("chunk",),
        rule=f"chunk on a CPU; on CUDA triton for up to {FEW_TOKENS} tokens, else fla for bfloat16 and float16 where "
        "fla-core is installed, else chunk (cpp only when asked for)",
    )
)
READ_AS_THEY_ARE = frozenset({"triton", "fla"})  # these take q, k and v in bfloat16 and compute in float32 themselves


def gated_delta_rule(
    q: Float[Tensor, "batch token head key"],
    k: Float[Tensor, "batch token head key"],
    v: Float[Tensor, "batch token head value"],
    g: Float[Tensor, "batch token head"],
    beta: Float[Tensor, "batch token head"],
    initial_state: Float[Tensor, "batch head key value"] | None = None,
    implementation: str | None = None,
) -> tuple[Float[Tensor, "batch token head value"], Float[Tensor, "batch head key value"]]:
    """Outputs of every token and the last state, computed in float32 or better; see naive.py for the definition.

    q and k are raw (normalised inside), g is the logarithm of the decay. The state comes back in that precision; the
    outputs have the dtype of v. (fla, on CUDA, sums in float32 but multiplies in the dtype of q, k and v.)
    initial_state is not written to. Raises: UsageError for an implementation that is
    unknown or cannot run here.
    """
    chosen = OPERATION.choose(implementation, q)
    rows = (q, k, v) if chosen.name in READ_AS_THEY_ARE else tuple(at_least_float32(x) for x in (q, k, v))
    before = None if initial_state is None else at_least_float32(initial_state)
    with without_autocast(q.device):
        output, after = chosen.load()(*rows, at_least_float32(g), at_least_float32(beta), before)
    return output.to(v.dtype), after
