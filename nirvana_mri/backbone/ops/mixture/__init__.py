"""Mixing the branches of a layer: which implementation runs is said here, once, and can be asked for by name."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor

from nirvana_mri.backbone.ops.available import interpreted, triton_missing, triton_serves
from nirvana_mri.backbone.ops.registry import Implementation, Operation, register

__all__ = ["OPERATION", "mix_branches"]


def _naive() -> Callable[..., Any]:
    from nirvana_mri.backbone.ops.mixture.naive import mix_branches_naive

    return mix_branches_naive


def _fused() -> Callable[..., Any]:
    from nirvana_mri.backbone.ops.mixture.fused import mix_branches_fused

    return mix_branches_fused


def _triton() -> Callable[..., Any]:
    from nirvana_mri.backbone.ops.mixture.triton_kernel import mix_branches_triton

    return mix_branches_triton


OPERATION = register(
    Operation(
        "mix_branches",
        (
            Implementation("naive", "the definition; any device", _naive),
            Implementation("fused", "three passes over memory instead of five; any device", _fused),
            Implementation("triton", "one pass over memory; CUDA", _triton, triton_missing, triton_serves),
        ),
        # Triton's interpreter would take CPU tensors too; there it runs only when asked for.
        preferred=("fused",) if interpreted() else ("triton", "fused"),
        rule="triton on CUDA where it is installed (never for float64), else fused",
    )
)


def mix_branches(
    delta: Float[Tensor, "*token channel"],
    attention: Float[Tensor, "*token channel"],
    correction: Float[Tensor, "*token channel"],
    logit_attention: Float[Tensor, "*token 1"],
    logit_delta: Float[Tensor, "*token 1"],
    implementation: str | None = None,
) -> tuple[Float[Tensor, "*token channel"], Float[Tensor, "*token 1"], Float[Tensor, "*token 1"]]:
    """t2 * delta + t * attention + t * t2 * correction, the attention gate t and the delta gate t2.

    The gates are sigmoids of their logits, one number for each token. Nothing is summed over tokens or channels, so
    it stays in the dtype that comes in. Raises: UsageError for an implementation that is unknown or cannot run here.
    """
    function = OPERATION.choose(implementation, delta).load()
    return function(delta, attention, correction, logit_attention, logit_delta)
