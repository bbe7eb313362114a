"""The two kinds of weights of the Trigger: slow ones (learned, shared) and fast ones (of each token)."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

LAYER_NORM_EPS = 1e-6


class SlowWeights(NamedTuple):
    """What training learns; one set for all layers. The last axis is contracted with a token's fast weights."""

    weight_linear: Float[Tensor, "concept_in concept logit"]
    weight_ln: Float[Tensor, "concept logit"]
    bias_linear: Float[Tensor, "concept logit"]
    bias_ln: Float[Tensor, "concept logit"]


class FastWeights(NamedTuple):
    """What every token learns while the model runs, carried from layer to layer and never from token to token."""

    weight_linear: Float[Tensor, "*token logit"]
    weight_ln: Float[Tensor, "*token logit"]
    bias_linear: Float[Tensor, "*token logit"]
    bias_ln: Float[Tensor, "*token logit"]
