"""The Trigger: from what a token is about (its concept) to a task vector that steers the layer's mixture."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nirvana_mri.backbone.config import BackboneConfig
from nirvana_mri.backbone.ops.trigger import TriggerBank, TriggerLogits, trigger_update
from nirvana_mri.errors import UsageError


class Trigger(nn.Module):
    """The slow weights that all layers share, and the rule by which each token learns its fast weights."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        concept, logit = config.concept_dim, config.logit_dim
        self.rate = config.trigger_rate
        self.clip: float | None = None
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
        task_vector, learned = trigger_update(q, k, v, fast, self._bank(), self.rate, self.rate)
        if self.clip is None or not self.rate:
            return task_vector, learned
        return self._clipped(concept, fast, task_vector, learned, self.clip)

    def clip_updates(self, largest: float | None) -> None:
        """No layer moves a token's fast weights further than this norm from now on (its four vectors together).

        None or infinity: as they are, bit for bit. It is no part of the configuration, so a saved model forgets it.
        """
        if largest is not None and not (isinstance(largest, float | int) and largest > 0):
            raise UsageError(f"the largest update is {largest!r}; expected a number above 0, or None for no limit")
        self.clip = None if largest is None or math.isinf(largest) else float(largest)

    def gradient(self, concept: Float[Tensor, "*token three_concepts"], fast: TriggerLogits) -> TriggerLogits:
        """The gradients that a token's fast weights learn from, in float64: an update is minus the rate times these."""
        q, k, v = (x.double() for x in concept.chunk(3, dim=-1))
        before = TriggerLogits(*(p.double() for p in fast))
        bank = TriggerBank(*(table.double() for table in self._bank()))
        _, after = trigger_update(q, k, v, before, bank, 1.0, 1.0, implementation="tiled")
        return TriggerLogits(*(old - new for old, new in zip(before, after, strict=True)))

    def _bank(self) -> TriggerBank:
        return TriggerBank(self.weight_linear, self.weight_ln, self.bias_linear, self.bias_ln)

    def _clipped(
        self, concept: Tensor, fast: TriggerLogits, task_vector: Tensor, learned: TriggerLogits, largest: float
    ) -> tuple[Tensor, TriggerLogits]:
        """The same where updates are small enough; elsewhere shortened, and predicted anew from what was learned."""
        step = torch.cat([new - old for new, old in zip(learned, fast, strict=True)], dim=-1)
        norm = torch.linalg.vector_norm(step, dim=-1, keepdim=True)
        shorter = (step * (largest / norm.clamp_min(largest))).chunk(len(fast), dim=-1)
        too_long = norm > largest
        kept = TriggerLogits(
            *(torch.where(too_long, old + by, new) for old, by, new in zip(fast, shorter, learned, strict=True))
        )
        q, k, v = concept.chunk(3, dim=-1)
        predicted, _ = trigger_update(q, k, v, kept, self._bank(), 0.0, 0.0)
        return torch.where(too_long, predicted, task_vector), kept
