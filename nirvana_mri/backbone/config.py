"""The numbers that define one Nirvana backbone."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nirvana_mri.errors import UsageError

PRELUDE_LAYERS = 2  # delta rule alone, no attention and no Trigger (fact of the released model)
CONV_TAPS = 4
ARCHITECTURES = ("nirvana", "delta", "attention")  # all others than the first are baselines for comparison
ROTARY_BASE = 10000.0

# Published keys that would change the arithmetic, with the only values that this implementation covers.
_FIXED = {
    "hidden_act": ("swish", "silu"),
    "attention_bias": (False,),
    "norm_first": (False,),
}
_REQUIRED = ("vocab_size", "hidden_size", "num_hidden_layers", "num_heads", "concept_dim", "logit_dim")


@dataclass(frozen=True)
class BackboneConfig:
    """Sizes and constants of a Nirvana language model (arXiv 2510.26083).

    window_size counts the tokens that one token sees, itself included; None is full causal attention.
    trigger_rate is the learning rate of the fast weights; 0 switches the test-time learning off. architecture "delta"
    makes every layer a delta-rule memory and "attention" every layer softmax attention, both without the Trigger, as
    baselines; rotary encodes positions in attention's queries and keys (the released model encodes none).
    """

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    concept_dim: int
    logit_dim: int
    intermediate_size: int
    window_size: int | None = None
    tie_word_embeddings: bool = False
    norm_eps: float = 1e-6
    initializer_range: float = 0.006
    pad_token_id: int | None = None
    trigger_rate: float = 0.01
    architecture: str = "nirvana"
    rotary: bool = False

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "num_layers", "num_heads", "concept_dim", "logit_dim"):
            self._require_positive_int(name)
        self._require_positive_int("intermediate_size")
        if self.window_size is not None:
            self._require_positive_int("window_size")
        if self.hidden_size % self.num_heads or self.hidden_size < 16:
            raise UsageError(
                f"hidden_size {self.hidden_size} must be at least 16 and a multiple of num_heads {self.num_heads}"
            )
        for name, smallest in (("norm_eps", 1e-30), ("initializer_range", 0.0), ("trigger_rate", 0.0)):
            value = getattr(self, name)
            if not isinstance(value, float | int) or not smallest <= value < math.inf:
                raise UsageError(f"{name} is {value!r}; expected a number from {smallest:g} up")
        if self.pad_token_id is not None and not 0 <= self.pad_token_id < self.vocab_size:
            raise UsageError(f"pad_token_id {self.pad_token_id} is outside the vocabulary 0..{self.vocab_size - 1}")
        self._require_architecture()

    def _require_positive_int(self, name: str) -> None:
        value = getattr(self, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UsageError(f"{name} is {value!r}; expected a positive integer")

    def _require_architecture(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise UsageError(f"architecture is {self.architecture!r:.80}; expected one of {', '.join(ARCHITECTURES)}")
        if self.rotary and self.architecture == "delta":
            raise UsageError("rotary is True, but architecture delta has no attention to rotate; leave rotary out")
        if self.rotary and self.head_dim % 2:
            raise UsageError(f"rotary turns pairs of channels, but heads have {self.head_dim}; take other num_heads")

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def attention_layers(self) -> range:
        """The layers that attend, and so keep keys and values."""
        first = {"nirvana": PRELUDE_LAYERS, "delta": self.num_layers, "attention": 0}[self.architecture]
        return range(first, self.num_layers)

    @classmethod
    def nano(cls) -> "BackboneConfig":
        """The small preset that ships with the project: 8.0 million parameters, made for a CPU.

        Its first weights are spread more widely than the published model's: on few tokens that learns faster.
        """
        return cls(
            vocab_size=8192,
            hidden_size=256,
            num_layers=6,
            num_heads=4,
            concept_dim=32,
            logit_dim=16,
            intermediate_size=derived_intermediate_size(256),
            window_size=2048,
            tie_word_embeddings=True,
            pad_token_id=2,
            initializer_range=0.02,
        )

    @classmethod
    def base(cls) -> "BackboneConfig":
        """The published 1.3B model, with the 2048-token window that its configuration names."""
        return cls(
            vocab_size=32000,
            hidden_size=2048,
            num_layers=22,
            num_heads=16,
            concept_dim=64,
            logit_dim=32,
            intermediate_size=derived_intermediate_size(2048),
            window_size=2048,
            tie_word_embeddings=True,
            pad_token_id=2,
        )

    @classmethod
    def from_published(cls, published: Mapping[str, Any], window_size: int | None = None) -> "BackboneConfig":
        """The configuration for a dictionary in the authors' (Hugging Face) format.

        window_size is taken from the argument alone: the released blocks never pass on the window that the
        dictionary names, so None, full causal attention, is what the released weights were made for. Keys without
        an influence on the numbers are ignored; a value that this implementation does not cover is a UsageError.
        """
        missing = [key for key in _REQUIRED if published.get(key) is None]
        if missing:
            raise UsageError(f"published configuration lacks {', '.join(missing)}; expected all of {_REQUIRED}")
        for key, covered in _FIXED.items():
            if key in published and published[key] not in covered:
                raise UsageError(f"published {key} is {published[key]!r}; only {covered} is implemented")
        hidden = published["hidden_size"]
        ratio = float(published.get("hidden_ratio") or 4)
        intermediate = published.get("intermediate_size")
        return cls(
            vocab_size=published["vocab_size"],
            hidden_size=hidden,
            num_layers=published["num_hidden_layers"],
            num_heads=published["num_heads"],
            concept_dim=published["concept_dim"],
            logit_dim=published["logit_dim"],
            intermediate_size=derived_intermediate_size(hidden, ratio) if intermediate is None else intermediate,
            window_size=window_size,
            tie_word_embeddings=bool(published.get("tie_word_embeddings", False)),
            norm_eps=published.get("norm_eps", 1e-6),
            initializer_range=published.get("initializer_range", 0.006),
            pad_token_id=published.get("pad_token_id"),
        )


def derived_intermediate_size(hidden_size: int, ratio: float = 4.0) -> int:
    """Width of the gated MLP: two thirds of ratio * hidden_size, rounded up to a multiple of 256."""
    return 256 * math.ceil(int(hidden_size * ratio * 2 / 3) / 256)
