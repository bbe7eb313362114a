"""The configuration in Hugging Face's form: the authors' keys, and two of ours."""

import dataclasses
from typing import Any

from transformers import PretrainedConfig

from nirvana_mri.backbone.config import BackboneConfig
from nirvana_mri.backbone.published_folder import MODEL_TYPE as PUBLISHED_TYPE
from nirvana_mri.errors import UsageError

_SAME_NAME = (
    "vocab_size",
    "hidden_size",
    "num_heads",
    "concept_dim",
    "logit_dim",
    "intermediate_size",
    "tie_word_embeddings",
    "norm_eps",
    "initializer_range",
    "pad_token_id",
    "trigger_rate",
)
# Keys of the authors' dictionary that speak of their code, not of the model.
_OF_THEIR_CODE = ("auto_map", "use_cache")


class NirvanaConfig(PretrainedConfig):
    """Sizes of a Nirvana model under the keys of the authors' config.json.

    The sizes have no defaults; backbone() names those that are missing. attention_window is the number of tokens that
    attention sees, the token itself included. The authors' window_size is kept but has no effect, as in their released
    blocks, so that a published config.json loads as the full causal attention that its weights were trained with.
    trigger_rate is the learning rate at test time (0: off). The authors' `use_cache: false`, written because their
    cache does not work, is not taken over.
    """

    model_type = "nirvana"
    keys_to_ignore_at_inference = ["past_key_values"]  # noqa: RUF012 (transformers looks for a list)
    attribute_map = {"num_attention_heads": "num_heads"}  # noqa: RUF012

    def __init__(
        self,
        vocab_size: int | None = None,
        hidden_size: int | None = None,
        num_hidden_layers: int | None = None,
        num_heads: int | None = None,
        concept_dim: int | None = None,
        logit_dim: int | None = None,
        hidden_ratio: float | None = 4,
        intermediate_size: int | None = None,
        attention_window: int | None = None,
        trigger_rate: float = 0.01,
        norm_eps: float = 1e-6,
        initializer_range: float = 0.006,
        use_cache: bool = True,
        **others: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_heads = num_heads
        self.concept_dim = concept_dim
        self.logit_dim = logit_dim
        self.hidden_ratio = hidden_ratio
        self.intermediate_size = intermediate_size
        self.attention_window = attention_window
        self.trigger_rate = trigger_rate
        self.norm_eps = norm_eps
        self.initializer_range = initializer_range
        self.use_cache = use_cache
        for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
            setattr(self, name, others.pop(name, None))
        self.tie_word_embeddings = others.pop("tie_word_embeddings", False)
        super().__init__(**others)

    @classmethod
    def from_backbone(cls, config: BackboneConfig, **others: Any) -> "NirvanaConfig":
        """The same model in this form; others are further keys, such as eos_token_id.

        Raises: UsageError for another architecture and for positions, which the authors' form has no word for.
        """
        if config.architecture != "nirvana" or config.rotary:
            raise UsageError(
                f"architecture {config.architecture}, rotary {config.rotary}: the authors' form holds Nirvana "
                "without positions alone; keep this model in a backbone file"
            )
        same = {name: getattr(config, name) for name in _SAME_NAME}
        return cls(**same, num_hidden_layers=config.num_layers, attention_window=config.window_size, **others)

    def backbone(self) -> BackboneConfig:
        """The same model in ours. Raises: UsageError for missing sizes and values that are not implemented."""
        config = BackboneConfig.from_published(self.to_dict(), window_size=self.attention_window)
        return dataclasses.replace(config, trigger_rate=self.trigger_rate)

    @classmethod
    def get_config_dict(cls, *arguments: Any, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The dictionary in a folder's config.json, with the authors' model_type replaced by ours."""
        found, options = super().get_config_dict(*arguments, **options)
        return _without_their_code(found), options

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **options: Any) -> Any:
        """The configuration of a dictionary, the authors' or ours (with the unused options, where asked for)."""
        return super().from_dict(_without_their_code(config_dict), **options)


def _without_their_code(found: dict[str, Any]) -> dict[str, Any]:
    if found.get("model_type") != PUBLISHED_TYPE:
        return found
    return {key: value for key, value in found.items() if key not in _OF_THEIR_CODE} | {
        "model_type": NirvanaConfig.model_type
    }
