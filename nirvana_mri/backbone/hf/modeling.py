"""NirvanaLM as a transformers model: forward and generate with labels, caches and files as Hugging Face has them."""

import os
from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from nirvana_mri.backbone.hf.cache import NirvanaCache
from nirvana_mri.backbone.hf.configuration import NirvanaConfig
from nirvana_mri.backbone.hf.loading import EMBEDDING, HEAD, key_mapping, published_state, require_whole, wrapped_state
from nirvana_mri.backbone.layers import Linear
from nirvana_mri.backbone.model import NirvanaLM, NirvanaOutput
from nirvana_mri.backbone.ops.precision import at_least_float32
from nirvana_mri.errors import UsageError


class NirvanaPreTrainedModel(PreTrainedModel):
    """What both wrappers share: the NirvanaLM in `model`, and files with the authors' tensor names."""

    config_class = NirvanaConfig
    supports_gradient_checkpointing = True
    _is_stateful = True
    _tied_weights_keys = {HEAD: EMBEDDING}  # noqa: RUF012 (transformers looks for a dict)

    def __init__(self, config: NirvanaConfig) -> None:
        super().__init__(config)
        self.model = NirvanaLM(config.backbone())
        if self.model.head is None:  # transformers wants a head, which tie_weights gives the embedding's own tensor
            self.model.head = Linear(self.model.config.hidden_size, self.model.config.vocab_size)
        self.post_init()

    @property
    def gradient_checkpointing(self) -> bool:
        """Where transformers switches recomputation; any scheme it names, ours runs each layer a second time."""
        return self.model.recompute

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, value: bool) -> None:
        self.model.recompute = value

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *arguments: Any, **options: Any) -> Any:
        """The model of a folder or Hub repository, the authors' or written by save_pretrained.

        Options are transformers' (dtype, device_map, revision, ...). Only safetensors files are read, unless
        use_safetensors=False asks for pickles. Raises: CheckpointError where a tensor is missing, unexpected, misshapen
        or not finite, whatever ignore_mismatched_sizes says; UsageError for a configuration without its sizes, and for
        an adapter's folder.
        """
        with_info = options.pop("output_loading_info", False)
        options["key_mapping"] = key_mapping() | (options.get("key_mapping") or {})
        options = {"use_safetensors": True} | options | {"ignore_mismatched_sizes": True, "output_loading_info": True}
        loaded: Any = super().from_pretrained(pretrained_model_name_or_path, *arguments, **options)
        model, info = loaded
        if getattr(model, "_hf_peft_config_loaded", False):  # info is the adapter's; the base model is unchecked
            name = pretrained_model_name_or_path
            raise UsageError(f"{name} comes with an adapter; load the base model alone, then use its load_adapter")
        require_whole(model.model, info, pretrained_model_name_or_path or "state_dict")
        return (model, info) if with_info else model

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        is_main_process: bool = True,
        state_dict: dict[str, Any] | None = None,
        *arguments: Any,
        **options: Any,
    ) -> None:
        """Write config.json and the weights under the authors' names; options are transformers' (max_shard_size, ...).

        state_dict has this model's names. With an adapter loaded into the model, transformers writes that alone.
        Raises: UsageError where the folder's name is taken by a file, or a tensor has no place in the format.
        """
        if os.path.isfile(save_directory):
            raise UsageError(f"{save_directory} is a file; name a folder")
        if not getattr(self, "_hf_peft_config_loaded", False):
            state_dict = published_state(state_dict or self.state_dict(), self.config.tie_word_embeddings)
            options["save_original_format"] = False  # the names are final
        super().save_pretrained(save_directory, is_main_process, state_dict, *arguments, **options)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Copy tensors in, under this model's names or the authors', as trainers read them back from saved files."""
        return super().load_state_dict(wrapped_state(state_dict, self.model), strict=strict, assign=assign)

    def new_cache(self, batch_size: int) -> NirvanaCache:
        """An empty past_key_values for so many sequences."""
        return NirvanaCache(self.model.config, batch_size)

    def resize_token_embeddings(self, *arguments: Any, **options: Any) -> nn.Embedding:
        """The embedding after a change of the vocabulary's size; arguments are transformers'."""
        embedding = super().resize_token_embeddings(*arguments, **options)
        self.model.config = self.config.backbone()
        return embedding

    def get_input_embeddings(self) -> nn.Module:
        return self.model.embedding

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.model.embedding = value

    def get_output_embeddings(self) -> nn.Module:
        return self.model.head

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.model.head = new_embeddings

    def _init_weights(self, module: nn.Module) -> None:
        """NirvanaLM has drawn its own first values; what transformers adds (more tokens) is drawn here."""
        if type(module) in (nn.Embedding, nn.Linear):
            nn.init.normal_(cast(Tensor, module.weight), std=self.config.initializer_range)

    def _hidden(
        self,
        ids: Tensor | None,
        vectors: Tensor | None,
        mask: Tensor | None,
        cache: NirvanaCache | None,
        record: bool,
    ) -> NirvanaOutput:
        """The backbone's output without logits; mask may cover the cache's tokens too."""
        given = vectors if ids is None else ids
        if mask is not None and cache is not None and given is not None and mask.ndim == 2:
            mask = mask[:, -given.shape[1] :]
        return self.model(ids, vectors, mask, cache, compute_logits=False, record=record)

    def _cache(self, given: object, use_cache: bool | None, batch: Tensor | None) -> NirvanaCache | None:
        """The cache to use: the one given, a new one where it is asked for, or none.

        Unasked, config.use_cache decides, except where gradients are wanted: a cache carries none.
        """
        if given is not None:
            if not isinstance(given, NirvanaCache):
                raise UsageError(f"past_key_values is a {type(given).__name__}; make one with new_cache(batch_size)")
            return given
        wanted = self.config.use_cache and not torch.is_grad_enabled() if use_cache is None else use_cache
        return self.new_cache(batch.shape[0]) if wanted and batch is not None else None

    def _all_hidden(self, output: NirvanaOutput, ids: Tensor | None, vectors: Tensor | None) -> tuple[Tensor, ...]:
        """What goes into the first layer and comes out of each one, the last after the final norm."""
        assert output.layers is not None
        first = self.model.embedding(ids) if vectors is None else vectors
        return (first, *(layer.hidden for layer in output.layers[:-1]), output.final_hidden)


class NirvanaModel(NirvanaPreTrainedModel):
    """The backbone for its hidden states; it keeps the head, so that its files hold the whole model."""

    def forward(
        self,
        input_ids: Int[Tensor, "batch token"] | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Float[Tensor, "batch token channel"] | None = None,
        past_key_values: object = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> BaseModelOutputWithPast | tuple[Any, ...]:
        """last_hidden_state is normed; other arguments as in NirvanaForCausalLM."""
        cache = self._cache(past_key_values, use_cache, inputs_embeds if input_ids is None else input_ids)
        record = _chosen(output_hidden_states, self.config.output_hidden_states)
        output = self._hidden(input_ids, inputs_embeds, attention_mask, cache, record)
        result = BaseModelOutputWithPast(
            last_hidden_state=output.final_hidden,
            past_key_values=cast(Any, cache),  # no subclass of transformers' Cache
            hidden_states=self._all_hidden(output, input_ids, inputs_embeds) if record else None,
        )
        return result if _chosen(return_dict, self.config.return_dict) else result.to_tuple()


class NirvanaForCausalLM(NirvanaPreTrainedModel, GenerationMixin):
    """The language model: logits, a loss on shifted labels, and transformers' generate."""

    accepts_loss_kwargs = True

    def forward(
        self,
        input_ids: Int[Tensor, "batch token"] | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Float[Tensor, "batch token channel"] | None = None,
        labels: Int[Tensor, "batch token"] | None = None,
        past_key_values: object = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        num_items_in_batch: int | Tensor | None = None,
    ) -> CausalLMOutputWithPast | tuple[Any, ...]:
        """Logits of the last logits_to_keep tokens (0: of all), or of those at the positions that it lists.

        attention_mask covers the input, or the past and the input. labels are the input's own tokens, shifted in here;
        -100 is left out. past_key_values, a NirvanaCache, moves on in place; without one, use_cache makes it, and
        where neither is given config.use_cache does, unless gradients are on. Positions are not encoded, so there are
        no position_ids. Raises: UsageError for attention weights, which no layer keeps, and as NirvanaLM.
        """
        if output_attentions:
            raise UsageError("output_attentions: attention weights are not kept; output_hidden_states is available")
        cache = self._cache(past_key_values, use_cache, inputs_embeds if input_ids is None else input_ids)
        if labels is not None and cache is not None and torch.is_grad_enabled():
            raise UsageError("labels with a cache: a cache carries no gradient; pass use_cache=False")
        record = _chosen(output_hidden_states, self.config.output_hidden_states)
        output = self._hidden(input_ids, inputs_embeds, attention_mask, cache, record)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.model.head(output.final_hidden[:, kept])
        result = CausalLMOutputWithPast(
            loss=None if labels is None else next_token_loss(logits, labels, num_items_in_batch),
            logits=logits,
            past_key_values=cast(Any, cache),  # no subclass of transformers' Cache
            hidden_states=self._all_hidden(output, input_ids, inputs_embeds) if record else None,
        )
        return result if _chosen(return_dict, self.config.return_dict) else result.to_tuple()

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        """False: generate must not make a cache of keys and values; forward makes ours in the first step."""
        return False


def next_token_loss(
    logits: Float[Tensor, "batch kept vocabulary"],
    labels: Int[Tensor, "batch token"],
    items: int | Tensor | None = None,
) -> Float[Tensor, ""]:
    """Cross entropy of each token's logits with the next token's label, -100 left out.

    The mean over the labels, or their sum over items where a trainer counts them across batches. UsageError where
    logits_to_keep has dropped some of the logits.
    """
    if logits.shape[1] != labels.shape[1]:
        raise UsageError(f"{labels.shape[1]} labels for the logits of {logits.shape[1]} tokens; leave logits_to_keep 0")
    flat = at_least_float32(logits[:, :-1]).flatten(0, 1)
    targets = labels[:, 1:].to(logits.device).flatten()
    if items is None:
        return F.cross_entropy(flat, targets, ignore_index=-100)
    return F.cross_entropy(flat, targets, ignore_index=-100, reduction="sum") / items


def _chosen(asked: bool | None, otherwise: bool | None) -> bool:
    return bool(otherwise if asked is None else asked)
