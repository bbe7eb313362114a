"""The Trigger's test-time learning: which implementation runs is said here, once, and can be asked for by name."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor

from nirvana_mri.backbone.ops.available import interpreted, triton_missing, triton_serves
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


def _triton() -> Callable[..., Any]:
    from nirvana_mri.backbone.ops.trigger.fused import trigger_update_triton

    return trigger_update_triton


OPERATION = register(
    Operation(
        "trigger_update",
        (
            Implementation("naive", "the definition, in the authors' order; any device", _naive),
            Implementation("tiled", "one product and cheap contractions per tile of 1024 tokens; any device", _tiled),
            Implementation("triton", "fused kernels; CUDA", _triton, triton_missing, triton_serves),
        ),
        # Triton's interpreter would take CPU tensors too; there it runs only when asked for.
        preferred=("tiled",) if interpreted() else ("triton", "tiled"),
        rule="triton on CUDA where it is installed (never for float64), else tiled",
    )
)


READ_AS_THEY_ARE = frozenset({"triton"})  # takes q, k, v and the bank in bfloat16 and computes in float32 itself


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
    chosen = OPERATION.choose(implementation, q)
    with without_autocast(q.device):
        wide = TriggerLogits(*map(at_least_float32, logits))
        vectors = [q, k, v]
        if chosen.name not in READ_AS_THEY_ARE:
            vectors = [at_least_float32(x) for x in vectors]
            bank = TriggerBank(*map(at_least_float32, bank))
        task_vector, learned = chosen.load()(*vectors, wide, bank, lr_linear, lr_ln)
    return task_vector.to(q.dtype), learned
