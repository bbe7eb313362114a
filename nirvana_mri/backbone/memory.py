"""The token mixers: a gated delta-rule memory or attention alone, or both joined under the Trigger's control."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nirvana_mri.backbone.attention import AttentionBranch, Heads
from nirvana_mri.backbone.cache import LayerCache
from nirvana_mri.backbone.config import BackboneConfig
from nirvana_mri.backbone.layers import GatedRMSNorm, Linear, LowRank, ShortConv
from nirvana_mri.backbone.ops.gated_delta import gated_delta_rule
from nirvana_mri.backbone.ops.mixture import mix_branches
from nirvana_mri.backbone.ops.precision import at_least_float32
from nirvana_mri.backbone.ops.trigger import TriggerLogits
from nirvana_mri.backbone.trigger import Trigger


class Mixed(NamedTuple):
    """What a mixer gives: its output, the fast weights for the next layer, and (after the prelude) its gates.

    A model without a Trigger has neither fast weights nor gates.
    """

    output: Float[Tensor, "batch token channel"]
    fast: TriggerLogits | None
    gate_attention: Float[Tensor, "batch token 1"] | None = None
    gate_delta: Float[Tensor, "batch token 1"] | None = None
    task_vector: Float[Tensor, "batch token concept"] | None = None


class DeltaMemory(nn.Module):
    """Gated DeltaNet: a matrix per head that forgets, corrects itself and is read (arXiv 2412.06464)."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        size, heads = config.hidden_size, config.num_heads
        self.num_heads = heads
        self.query, self.key, self.value = Linear(size, size), Linear(size, size), Linear(size, size)
        self.query_conv, self.key_conv, self.value_conv = ShortConv(size), ShortConv(size), ShortConv(size)
        self.beta = Linear(size, heads)
        self.decay = Linear(size, heads)
        self.log_decay = nn.Parameter(torch.empty(heads))
        self.decay_bias = nn.Parameter(torch.empty(heads))
        self.gate = Linear(size, size)
        self.output_norm = GatedRMSNorm(size // heads, config.norm_eps)
        self.output = Linear(size, size)

    def project(self, x: Float[Tensor, "batch token channel"]) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v of x before the convolutions; the attention branch starts from the same three."""
        return self.query(x), self.key(x), self.value(x)

    def forward(
        self,
        x: Float[Tensor, "batch token channel"],
        q: Float[Tensor, "batch token channel"],
        k: Float[Tensor, "batch token channel"],
        v: Float[Tensor, "batch token channel"],
        real: Bool[Tensor, "batch token"] | None,
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "batch token channel"]:
        """Padding neither writes to the memory nor makes it forget."""
        q, k, v = (self._heads(y) for y in self._convolved(q, k, v, real, cache))
        beta = self.beta(x).sigmoid()
        step = F.softplus(at_least_float32(self.decay(x)) + self.decay_bias)
        g = -at_least_float32(self.log_decay).exp() * step
        if real is not None:
            beta = beta.masked_fill(~real[..., None], 0)
            g = g.masked_fill(~real[..., None], 0)
        read, state = gated_delta_rule(q, k, v, g, beta, None if cache is None else cache.state)
        if cache is not None:
            cache.state = state
        return self.output(self.output_norm(read, self._heads(self.gate(x))).flatten(2))

    def _convolved(
        self, q: Tensor, k: Tensor, v: Tensor, real: Tensor | None, cache: LayerCache | None
    ) -> tuple[Tensor, ...]:
        convolutions = (self.query_conv, self.key_conv, self.value_conv)
        if cache is None:
            return tuple(conv(x, real) for conv, x in zip(convolutions, (q, k, v), strict=True))
        resumed = [
            conv.resume(x, real, tail) for conv, x, tail in zip(convolutions, (q, k, v), cache.tails, strict=True)
        ]
        cache.tails = [tail for _, tail in resumed]
        return tuple(y for y, _ in resumed)

    def _heads(self, x: Tensor) -> Float[Tensor, "batch token head channel"]:
        return x.unflatten(-1, (self.num_heads, -1))


class PreludeMixer(nn.Module):
    """The mixer of the first layers, or of all: memory alone; the fast weights, if any, start (again) after it."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.memory = DeltaMemory(config)

    def forward(
        self,
        x: Float[Tensor, "batch token channel"],
        real: Tensor | None,
        fast: TriggerLogits | None,
        trigger: Trigger | None,
        cache: LayerCache | None = None,
    ) -> Mixed:
        output = self.memory(x, *self.memory.project(x), real, cache)
        return Mixed(output, None if trigger is None else trigger.start(x))


class AttentionMixer(nn.Module):
    """The mixer of a Transformer: attention alone, with projections of its own."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.query, self.key, self.value = Linear(size, size), Linear(size, size), Linear(size, size)
        self.heads = Heads(config)
        self.output = Linear(size, size)

    def forward(
        self,
        x: Float[Tensor, "batch token channel"],
        real: Tensor | None,
        fast: None,
        trigger: None,
        cache: LayerCache | None = None,
    ) -> Mixed:
        ring = None if cache is None else cache.ring
        return Mixed(self.output(self.heads(self.query(x), self.key(x), self.value(x), real, ring)), None)


class Interpolation(nn.Module):
    """Gates by the task vector: t2 * delta + t * attention + t * t2 * correction; t and t2 do not sum to one."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        size, concept = config.hidden_size, config.concept_dim
        self.gate_attention = Linear(concept, 1)
        self.gate_delta = Linear(concept, 1)
        self.correction = Correction(2 * size + 2 * concept, size // 8, size)

    def forward(
        self,
        delta: Float[Tensor, "batch token channel"],
        attention: Float[Tensor, "batch token channel"],
        task_vector: Float[Tensor, "batch token concept"],
    ) -> tuple[Float[Tensor, "batch token channel"], Float[Tensor, "batch token 1"], Float[Tensor, "batch token 1"]]:
        """The mixture, the attention gate t and the delta gate t2."""
        correction = self.correction(torch.cat([delta, attention, task_vector, task_vector], dim=-1))
        return mix_branches(
            delta, attention, correction, self.gate_attention(task_vector), self.gate_delta(task_vector)
        )


class Correction(LowRank):
    """A low-rank pair with SiLU in its middle."""

    def forward(self, x: Float[Tensor, "*batch channel_in"]) -> Float[Tensor, "*batch channel_out"]:
        return self.up(F.silu(self.down(x)))


class TaskAwareMixer(nn.Module):
    """Memory and attention side by side; the Trigger's task vector says, token by token, how much of each."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.memory = DeltaMemory(config)
        self.attention = AttentionBranch(config)
        self.concept = Linear(config.hidden_size, 3 * config.concept_dim)
        self.interpolation = Interpolation(config)

    def forward(
        self,
        x: Float[Tensor, "batch token channel"],
        real: Tensor | None,
        fast: TriggerLogits,
        trigger: Trigger,
        cache: LayerCache | None = None,
    ) -> Mixed:
        projected = self.memory.project(x)
        delta = self.memory(x, *projected, real, cache)
        attention = self.attention(x, *projected, real, None if cache is None else cache.ring)
        task_vector, fast = trigger(self.concept(x), fast)
        output, t, t2 = self.interpolation(delta, attention, task_vector)
        return Mixed(output, fast, t, t2, task_vector)


def make_mixer(config: BackboneConfig, index: int) -> PreludeMixer | TaskAwareMixer | AttentionMixer:
    """The mixer of the layer with this index, of the configuration's architecture."""
    if config.architecture == "attention":
        return AttentionMixer(config)
    return TaskAwareMixer(config) if index in config.attention_layers else PreludeMixer(config)
