"""The mixture of the two branches and their correction under a token's two gates. The definition."""

from jaxtyping import Float
from torch import Tensor


def mix_branches_naive(
    delta: Float[Tensor, "*token channel"],
    attention: Float[Tensor, "*token channel"],
    correction: Float[Tensor, "*token channel"],
    logit_attention: Float[Tensor, "*token 1"],
    logit_delta: Float[Tensor, "*token 1"],
) -> tuple[Float[Tensor, "*token channel"], Float[Tensor, "*token 1"], Float[Tensor, "*token 1"]]:
    """t2 * delta + t * attention + t * t2 * correction, the attention gate t and the delta gate t2.

    The gates are sigmoids of their logits; they do not sum to one.
    """
    t, t2 = logit_attention.sigmoid(), logit_delta.sigmoid()
    return t2 * delta + t * attention + t * t2 * correction, t, t2
