"""The gated delta rule by fla-core's CUDA kernels (extra `gpu`)."""

from jaxtyping import Float
from torch import Tensor


def gated_delta_rule_fla(
    q: Float[Tensor, "batch token head key"],
    k: Float[Tensor, "batch token head key"],
    v: Float[Tensor, "batch token head value"],
    g: Float[Tensor, "batch token head"],
    beta: Float[Tensor, "batch token head"],
    state: Float[Tensor, "batch head key value"] | None = None,
) -> tuple[Float[Tensor, "batch token head value"], Float[Tensor, "batch head key value"]]:
    """Outputs of every token and the last state; arguments as in gated_delta_rule_naive.

    q, k and v in bfloat16 or float16 as they are (float32 works, but its products are tf32); the rest in float32.
    """
    from fla.ops.gated_delta_rule import chunk_gated_delta_rule

    return chunk_gated_delta_rule(
        q,
        k,
        v,
        g=g,
        beta=beta,
        scale=q.shape[-1] ** -0.5,
        initial_state=state,
        output_final_state=True,
        use_qk_l2norm_in_kernel=True,
    )
