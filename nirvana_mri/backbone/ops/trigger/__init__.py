"""The Trigger's test-time learning: which implementation runs is said here, once, and can be asked for by name."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor

from nirvana_mri.backbone.ops.precision import at_least_float32, without_autocast
from nirvana_mri.backbone.ops.registry import Implementation, Operation, register
from nirvana_mri.backbone.ops.trigger.naive import TriggerBank, TriggerLogits

__all__ = ["OPERATION", "TriggerBank", "TriggerLogits", "trigger_update"]


def _naive() -> Callable[..., Any]:
    from nirvana_mri.backbone.ops.trigger.naive import trigger_update_naive

    return trigger_update_naive


def _tiled() -> Callable[..., Any]:
    from nirvana_mri.backbone.ops.trigger.tiled import trigger_update_tiled

    return trigger_update_tiled


OPERATION = register(
    Operation(
        "trigger_update",
        (
            Implementation("naive", "the definition, in the authors' order; any device", _naive),
            Implementation("tiled", "two contractions per tile of 512 tokens; any device", _tiled),
        ),
        preferred=("tiled",),
        rule="tiled everywhere",
    )
)


def trigger_update(
    q: Float[Tensor, "*token concept"],
    k: Float[Tensor, "*token concept"],
    v: Float[Tensor, "*token concept"],
    logits: TriggerLogits,
    bank: TriggerBank,
    lr_linear: float,
    lr_ln: float,
    implementation: str | None = None,
) -> tuple[Float[Tensor, "*token concept"], TriggerLogits]:
    """Each token's task vector h_new and its logits after learning k -> v; naive.py is the definition.

    lr_linear moves weight_linear and bias_linear, lr_ln the other two; with both 0 it predicts without learning. Never
    below float32: at bf16 a logit near one would lose 8 % of each step. Float64 stays float64. The task vector has the
    dtype of q. Raises: UsageError for an implementation that is unknown or cannot run here.
    """
    function = OPERATION.choose(implementation, q).load()
    with without_autocast(q.device):
        wide_bank = TriggerBank(*(at_least_float32(x) for x in bank))
        wide_logits = TriggerLogits(*(at_least_float32(x) for x in logits))
        wide = (at_least_float32(x) for x in (q, k, v))
        task_vector, learned = function(*wide, wide_logits, wide_bank, lr_linear, lr_ln)
    return task_vector.to(q.dtype), learned
