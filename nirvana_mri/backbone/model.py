"""The Nirvana language model: token ids or vectors in, hidden states and logits out."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from nirvana_mri.backbone.config import PRELUDE_LAYERS, BackboneConfig
from nirvana_mri.backbone.initialise import initialise
from nirvana_mri.backbone.layers import Embedding, GatedMLP, Linear, RMSNorm
from nirvana_mri.backbone.memory import Mixed, PreludeMixer, TaskAwareMixer
from nirvana_mri.backbone.ops.trigger import TriggerLogits
from nirvana_mri.backbone.trigger import Trigger
from nirvana_mri.errors import DataError, UsageError


@dataclass(frozen=True)
class LayerRecord:
    """What one layer did; the prelude has no gates."""

    hidden: Float[Tensor, "batch token channel"]
    gate_attention: Float[Tensor, "batch token 1"] | None
    gate_delta: Float[Tensor, "batch token 1"] | None
    task_vector: Float[Tensor, "batch token concept"] | None


@dataclass(frozen=True)
class NirvanaOutput:
    """final_hidden is normed, what the head reads; logits only if computed, layers only if recorded."""

    final_hidden: Float[Tensor, "batch token channel"]
    logits: Float[Tensor, "batch token vocabulary"] | None
    layers: tuple[LayerRecord, ...] | None


class Layer(nn.Module):
    """x += mixer(norm(x)), then x += mlp(norm(x))."""

    def __init__(self, config: BackboneConfig, index: int) -> None:
        super().__init__()
        self.mixer_norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.mixer = PreludeMixer(config) if index < PRELUDE_LAYERS else TaskAwareMixer(config)
        self.mlp_norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.mlp = GatedMLP(config.hidden_size, config.intermediate_size)

    def forward(
        self, x: Float[Tensor, "batch token channel"], real: Tensor | None, fast: TriggerLogits | None, trigger: Trigger
    ) -> tuple[Float[Tensor, "batch token channel"], Mixed]:
        mixed = self.mixer(self.mixer_norm(x), real, fast, trigger)
        x = x + mixed.output
        return x + self.mlp(self.mlp_norm(x)), mixed


class NirvanaLM(nn.Module):
    """A causal language model whose layers mix a delta-rule memory and attention, token by token.

    Its weights come from the seed alone, whatever torch's global generator holds, until they are loaded. It works
    in the dtype of its parameters; the memory, the norms and the Trigger never below float32.
    Source: Nirvana (arXiv 2510.26083) and the authors' released code, whose numbers it reproduces.
    """

    def __init__(self, config: BackboneConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.embedding = Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config, index) for index in range(config.num_layers))
        self.trigger = Trigger(config)
        self.norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.head = None if config.tie_word_embeddings else Linear(config.hidden_size, config.vocab_size)
        self.init_weights(seed)

    def init_weights(self, seed: int = 0) -> None:
        """Draw every parameter anew; the same seed gives the same bytes."""
        initialise(self, seed)

    def forward(
        self,
        input_ids: Int[Tensor, "batch token"] | None = None,
        inputs_embeds: Float[Tensor, "batch token channel"] | None = None,
        attention_mask: Tensor | None = None,
        *,
        record: bool = False,
        compute_logits: bool = True,
    ) -> NirvanaOutput:
        """Hidden states and logits of every token, from ids or from vectors (exactly one of them).

        attention_mask [batch token] is 1 (True) for real tokens and 0 for padding, usually on the left. Labels are
        the caller's: logits[t] predicts token t + 1. compute_logits=False skips the head, record=True keeps what
        every layer did. UsageError for shapes that do not fit, DataError for ids outside the vocabulary or NaN.
        """
        x = self._vectors(input_ids, inputs_embeds)
        real = _real_tokens(attention_mask, x)
        fast: TriggerLogits | None = None
        records = []
        for layer in self.layers:
            x, mixed = layer(x, real, fast, self.trigger)
            fast = mixed.fast
            if record:
                records.append(LayerRecord(x, mixed.gate_attention, mixed.gate_delta, mixed.task_vector))
        final = self.norm(x)
        logits = self._logits(final) if compute_logits else None
        return NirvanaOutput(final, logits, tuple(records) if record else None)

    def _logits(self, final: Tensor) -> Float[Tensor, "batch token vocabulary"]:
        return F.linear(final, self.embedding.weight if self.head is None else self.head.weight)

    def _vectors(self, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Float[Tensor, "batch token channel"]:
        if (input_ids is None) == (inputs_embeds is None):
            given = "neither" if input_ids is None else "both"
            raise UsageError(f"NirvanaLM needs either input_ids or inputs_embeds, got {given}; pass exactly one")
        if input_ids is not None:
            return self.embedding(_checked_ids(input_ids, self.config.vocab_size))
        assert inputs_embeds is not None
        return _checked_vectors(inputs_embeds, self.config.hidden_size, self.embedding.weight.dtype)


def _checked_ids(ids: Tensor, vocabulary: int) -> Tensor:
    if ids.ndim != 2 or ids.numel() == 0 or ids.dtype not in (torch.int64, torch.int32):
        raise UsageError(f"input_ids is {ids.dtype} {tuple(ids.shape)}; expected integers [batch, token], not empty")
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= vocabulary:
        raise DataError(f"input_ids run from {low} to {high}; this model knows 0 to {vocabulary - 1}: wrong tokenizer?")
    return ids


def _checked_vectors(vectors: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    if vectors.ndim != 3 or vectors.numel() == 0 or vectors.shape[-1] != size:
        raise UsageError(f"inputs_embeds is {tuple(vectors.shape)}; expected [batch, token, {size}], not empty")
    if torch.promote_types(vectors.dtype, dtype) != dtype:
        raise UsageError(f"inputs_embeds is {vectors.dtype}, the model {dtype}; convert one of them")
    if not torch.isfinite(vectors).all():
        raise DataError(f"inputs_embeds {tuple(vectors.shape)} holds NaN or infinity; expected finite vectors")
    return vectors.to(dtype)


def _real_tokens(mask: Tensor | None, x: Tensor) -> Bool[Tensor, "batch token"] | None:
    """The mask as booleans, or None where every token is real (the faster path)."""
    if mask is None:
        return None
    if mask.shape != x.shape[:2]:
        raise UsageError(f"attention_mask is {tuple(mask.shape)}; expected [batch, token] = {tuple(x.shape[:2])}")
    real = mask.to(device=x.device, dtype=torch.bool)
    if mask.dtype != torch.bool and not torch.equal(real.to(mask.dtype), mask.to(x.device)):
        raise UsageError("attention_mask holds values other than 0 and 1; 1 is a real token, 0 padding")
    return None if bool(real.all()) else real
