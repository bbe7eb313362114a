"""The Nirvana language model: token ids or vectors in, hidden states and logits out."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nirvana_mri.backbone import generate as generation
from nirvana_mri.backbone.budget import require_memory
from nirvana_mri.backbone.cache import Cache, LayerCache
from nirvana_mri.backbone.config import BackboneConfig
from nirvana_mri.backbone.initialise import initialise
from nirvana_mri.backbone.layers import Embedding, GatedMLP, Linear, RMSNorm
from nirvana_mri.backbone.memory import Mixed, make_mixer
from nirvana_mri.backbone.ops.trigger import TriggerLogits
from nirvana_mri.backbone.trigger import Trigger
from nirvana_mri.errors import DataError, UsageError


@dataclass(frozen=True)
class LayerRecord:
    """What one layer did; the prelude has no gates. fast: the fast weights after it."""

    hidden: Float[Tensor, "batch token channel"]
    gate_attention: Float[Tensor, "batch token 1"] | None
    gate_delta: Float[Tensor, "batch token 1"] | None
    task_vector: Float[Tensor, "batch token concept"] | None
    fast: TriggerLogits | None


@dataclass(frozen=True)
class NirvanaOutput:
    """final_hidden is normed, what the head reads; logits of all tokens, of the last, or None; layers if recorded."""

    final_hidden: Float[Tensor, "batch token channel"]
    logits: Float[Tensor, "batch predicting vocabulary"] | None
    layers: tuple[LayerRecord, ...] | None


class Layer(nn.Module):
    """x += mixer(norm(x)), then x += mlp(norm(x))."""

    def __init__(self, config: BackboneConfig, index: int) -> None:
        super().__init__()
        self.mixer_norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.mixer = make_mixer(config, index)
        self.mlp_norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.mlp = GatedMLP(config.hidden_size, config.intermediate_size)

    def forward(
        self,
        x: Float[Tensor, "batch token channel"],
        real: Tensor | None,
        fast: TriggerLogits | None,
        trigger: Trigger | None,
        cache: LayerCache | None = None,
    ) -> tuple[Float[Tensor, "batch token channel"], Mixed]:
        mixed = self.mixer(self.mixer_norm(x), real, fast, trigger, cache)
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
        self.recompute = False
        self.embedding = Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config, index) for index in range(config.num_layers))
        self.trigger = Trigger(config) if config.architecture == "nirvana" else None
        self.norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.head = None if config.tie_word_embeddings else Linear(config.hidden_size, config.vocab_size)
        self.init_weights(seed)

    def init_weights(self, seed: int = 0) -> None:
        """Draw every parameter anew; the same seed gives the same bytes."""
        initialise(self, seed)

    def freeze(self, recompute: bool = False) -> "NirvanaLM":
        """The model itself, in eval mode, with parameters that never move; gradients still pass to its inputs.

        recompute keeps one vector per token and layer instead of every activation and runs each layer a second time
        in the backward pass: the same gradients, less memory, half as much time again.
        """
        self.recompute = recompute
        return self.requires_grad_(False).eval()

    @property
    def head_weight(self) -> Float[Tensor, "vocabulary channel"]:
        """What turns final hidden states into logits: the head's own matrix, or the embedding that it is tied to."""
        return self.embedding.weight if self.head is None else self.head.weight

    def new_cache(self, batch_size: int) -> Cache:
        """An empty cache for so many sequences."""
        return Cache(self.config, batch_size)

    def forward(
        self,
        input_ids: Int[Tensor, "batch token"] | None = None,
        inputs_embeds: Float[Tensor, "batch token channel"] | None = None,
        attention_mask: Tensor | None = None,
        cache: Cache | None = None,
        *,
        record: bool = False,
        compute_logits: bool = True,
        last_logits_only: bool = False,
    ) -> NirvanaOutput:
        """Hidden states and logits of every token, from ids or from vectors (exactly one of them).

        attention_mask [batch token] is 1 (True) for real tokens and 0 for padding, usually on the left. With a cache
        the tokens continue where it ends, and it moves on; no gradient flows then. Labels are the caller's: logits[t]
        predicts token t + 1. compute_logits=False skips the head, last_logits_only=True runs it on the last token
        alone, record=True keeps what every layer did. UsageError for shapes that do not fit, DataError for ids outside
        the vocabulary, NaN, or more tokens than memory is there for.
        """
        given = inputs_embeds if input_ids is None else input_ids
        if given is not None and given.ndim > 1:
            batch, tokens = given.shape[:2]
            heads = 0 if not compute_logits else 1 if last_logits_only else tokens
            kept = 0 if cache is None else cache.tokens + tokens
            require_memory(self.config, self.embedding.weight, batch, tokens, with_logits=heads, cached=kept)
        with _without_gradient(cache, inputs_embeds):
            x = self._vectors(input_ids, inputs_embeds)
            real = _real_tokens(attention_mask, x)
            _check_cache(cache, self.config, x)
            x, records = self._through_layers(x, real, cache, record)
            final = self.norm(x)
            logits = self._logits(final, last_logits_only) if compute_logits else None
        if cache is not None:
            cache.tokens += x.shape[1]
        return NirvanaOutput(final, logits, records)

    def generate(self, **arguments: Any) -> Int[Tensor, "batch token"]:
        """The ids of new tokens; arguments as in backbone.generate.stream."""
        return generation.generate(self, **arguments)

    def stream(self, **arguments: Any) -> Iterator[Int[Tensor, " batch"]]:
        """The same, one token of every row at a time, as soon as it is known."""
        return generation.stream(self, **arguments)

    def _through_layers(
        self, x: Tensor, real: Tensor | None, cache: Cache | None, record: bool
    ) -> tuple[Float[Tensor, "batch token channel"], tuple[LayerRecord, ...] | None]:
        fast: TriggerLogits | None = None
        records = []
        recompute = self.recompute and torch.is_grad_enabled() and x.requires_grad
        for index, layer in enumerate(self.layers):
            if recompute:
                x, mixed = checkpoint(layer, x, real, fast, self.trigger, use_reentrant=False, preserve_rng_state=False)
            else:
                x, mixed = layer(x, real, fast, self.trigger, None if cache is None else cache.layers[index])
            fast = mixed.fast
            if record:
                records.append(LayerRecord(x, mixed.gate_attention, mixed.gate_delta, mixed.task_vector, fast))
        return x, tuple(records) if record else None

    def _logits(self, final: Tensor, last_only: bool) -> Float[Tensor, "batch predicting vocabulary"]:
        # The last token as a matrix: for a slice with three axes, bfloat16 products copy the whole head first.
        read = final[:, -1] if last_only else final
        logits = F.linear(read, self.embedding.weight) if self.head is None else self.head(read)
        return logits[:, None] if last_only else logits

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
    if torch.is_autocast_enabled(vectors.device.type):
        dtype = torch.promote_types(vectors.dtype, dtype)  # products choose their own; the residual stream stays wide
    elif torch.promote_types(vectors.dtype, dtype) != dtype:
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


def _without_gradient(cache: Cache | None, vectors: Tensor | None) -> AbstractContextManager[object]:
    if cache is None:
        return nullcontext()
    if vectors is not None and vectors.requires_grad and torch.is_grad_enabled():
        raise UsageError("inputs_embeds asks for a gradient, which a cache does not carry; detach it, or give no cache")
    return torch.no_grad()


def _check_cache(cache: Cache | None, config: BackboneConfig, x: Tensor) -> None:
    if cache is None:
        return
    if cache.config != config:
        raise UsageError("this cache was made by a model of another configuration; use model.new_cache(batch_size)")
    if cache.batch_size != x.shape[0]:
        raise UsageError(f"the cache holds {cache.batch_size} sequences, the input {x.shape[0]}; expected as many")
