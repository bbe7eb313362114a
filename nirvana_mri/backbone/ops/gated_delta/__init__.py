"""The gated delta rule: which implementation runs is said here, once, and can be asked for by name."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor

from nirvana_mri.backbone.ops.gated_delta.naive import l2norm
from nirvana_mri.backbone.ops.precision import at_least_float32, without_autocast
from nirvana_mri.backbone.ops.registry import Implementation, Operation, register

__all__ = ["OPERATION", "gated_delta_rule", "l2norm"]


def _naive() -> Callable[..., Any]:
    from nirvana_mri.backbone.ops.gated_delta.naive import gated_delta_rule_naive

    return gated_delta_rule_naive


def _chunk() -> Callable[..., Any]:
    from nirvana_mri.backbone.ops.gated_delta.chunk import gated_delta_rule_chunk

    return gated_delta_rule_chunk


OPERATION = register(
    Operation(
        "gated_delta_rule",
        (
            Implementation("naive", "the definition, token by token; any device", _naive),
            Implementation("chunk", "matrix products over chunks of 64 tokens; any device", _chunk),
        ),
        preferred=("chunk",),
        rule="chunk everywhere",
    )
)


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
    outputs have the dtype of v. initial_state is not written to. Raises: UsageError for an implementation that is
    unknown or cannot run here.
    """
    function = OPERATION.choose(implementation, q).load()
    with without_autocast(q.device):
        wide = (at_least_float32(x) for x in (q, k, v, g, beta))
        before = None if initial_state is None else at_least_float32(initial_state)
        output, after = function(*wide, before)
    return output.to(v.dtype), after
