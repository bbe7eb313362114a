"""The Trigger's test-time learning: which implementation runs is said here, once, and can be asked for by name."""

from jaxtyping import Float
from torch import Tensor

from nirvana_mri.backbone.ops.precision import at_least_float32, without_autocast
from nirvana_mri.backbone.ops.trigger.naive import predict_naive, update_naive
from nirvana_mri.backbone.ops.trigger.tiled import predict_tiled, update_tiled
from nirvana_mri.backbone.ops.trigger.weights import FastWeights, SlowWeights
from nirvana_mri.errors import UsageError

__all__ = ["IMPLEMENTATIONS", "FastWeights", "SlowWeights", "trigger_update"]


IMPLEMENTATIONS = {"naive": (update_naive, predict_naive), "tiled": (update_tiled, predict_tiled)}


def trigger_update(
    slow: SlowWeights,
    fast: FastWeights,
    q: Float[Tensor, "*token concept"],
    k: Float[Tensor, "*token concept"],
    v: Float[Tensor, "*token concept"],
    rate: float,
    *,
    implementation: str = "tiled",
) -> tuple[Float[Tensor, "*token concept"], FastWeights]:
    """Each token's task vector and its fast weights after learning k -> v; rate 0 predicts without learning.

    Never below float32: at bf16 a fast weight near one would lose 8 % of each step. Float64 stays float64. The task
    vector has the dtype of q.
    """
    if implementation not in IMPLEMENTATIONS:
        raise UsageError(f"no Trigger named {implementation!r}; choose from {', '.join(IMPLEMENTATIONS)}")
    update, predict = IMPLEMENTATIONS[implementation]
    with without_autocast(q.device):
        slow = SlowWeights(*(at_least_float32(x) for x in slow))
        fast = FastWeights(*(at_least_float32(x) for x in fast))
        wide_q, wide_k, wide_v = (at_least_float32(x) for x in (q, k, v))
        if rate == 0:
            return predict(slow, fast, wide_q).to(q.dtype), fast
        task_vector, fast = update(slow, fast, wide_q, wide_k, wide_v, rate, rate)
    return task_vector.to(q.dtype), fast
