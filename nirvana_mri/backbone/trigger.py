"""The Trigger: from what a token is about (its concept) to a task vector that steers the layer's mixture."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nirvana_mri.backbone.config import BackboneConfig
from nirvana_mri.backbone.ops.trigger import TriggerBank, TriggerLogits, trigger_update


class Trigger(nn.Module):
    """The slow weights that all layers share, and the rule by which each token learns its fast weights."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        concept, logit = config.concept_dim, config.logit_dim
        self.rate = config.trigger_rate
        self.weight_linear = nn.Parameter(torch.empty(concept, concept, logit))
        self.weight_ln = nn.Parameter(torch.empty(concept, logit))
        self.bias_linear = nn.Parameter(torch.empty(concept, logit))
        self.bias_ln = nn.Parameter(torch.empty(concept, logit))

    def start(self, x: Float[Tensor, "*token channel"]) -> TriggerLogits:
        """Fast weights before any learning: ones, in float32 or better."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        one = torch.ones(*x.shape[:-1], self.weight_ln.shape[-1], dtype=dtype, device=x.device)
        return TriggerLogits(one, one, one, one)

    def forward(
        self, concept: Float[Tensor, "*token three_concepts"], fast: TriggerLogits
    ) -> tuple[Float[Tensor, "*token concept"], TriggerLogits]:
        """The task vector of every token, and its fast weights for the next layer.

        concept holds query, key and value, in this order, along its last axis.
        """
        q, k, v = concept.chunk(3, dim=-1)
        bank = TriggerBank(self.weight_linear, self.weight_ln, self.bias_linear, self.bias_ln)
        return trigger_update(q, k, v, fast, bank, self.rate, self.rate)
