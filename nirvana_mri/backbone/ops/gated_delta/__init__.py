"""The gated delta rule: which implementation runs is said here, once, and can be asked for by name."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from nirvana_mri.backbone.ops.gated_delta.chunk import gated_delta_rule_chunk
from nirvana_mri.backbone.ops.gated_delta.naive import gated_delta_rule_naive, l2norm
from nirvana_mri.backbone.ops.precision import at_least_float32, without_autocast
from nirvana_mri.errors import UsageError

__all__ = ["IMPLEMENTATIONS", "gated_delta_rule", "l2norm"]

IMPLEMENTATIONS = {"naive": gated_delta_rule_naive, "chunk": gated_delta_rule_chunk}


def gated_delta_rule(
    q: Float[Tensor, "batch token head key"],
    k: Float[Tensor, "batch token head key"],
    v: Float[Tensor, "batch token head value"],
    g: Float[Tensor, "batch token head"],
    beta: Float[Tensor, "batch token head"],
    state: Float[Tensor, "batch head key value"] | None = None,
    *,
    implementation: str = "chunk",
) -> tuple[Float[Tensor, "batch token head value"], Float[Tensor, "batch head key value"]]:
    """Outputs of every token and the last state, computed in float32 or better; see naive.py for the definition.

    The state comes back in that precision; the outputs have the dtype of v.
    """
    with without_autocast(q.device):
        wide = (at_least_float32(x) for x in (q, k, v, g, beta))
        before = None if state is None else at_least_float32(state)
        output, after = _run(implementation)(*wide, before)
    return output.to(v.dtype), after


def _run(implementation: str) -> Callable[..., tuple[Tensor, Tensor]]:
    if implementation not in IMPLEMENTATIONS:
        raise UsageError(f"no gated delta rule named {implementation!r}; choose from {', '.join(IMPLEMENTATIONS)}")
    return IMPLEMENTATIONS[implementation]
