"""The rule by which a language score was made, and how sure a share of hits is."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nirvana_mri import __version__
from nirvana_mri.language.load import LanguageModel

Z = 1.959963984540054  # of the normal distribution, for 95 %


@dataclass(frozen=True)
class TextProtocol:
    """Everything that moves a score besides the model and the text, and which model and tokenizer were scored.

    Numbers per token need the same tokenizer too; bits per byte and shares of hits do not.
    """

    task: str
    rule: Mapping[str, Any]
    model: str
    model_sha256: str
    tokenizer_sha256: str
    parameters: int
    dtype: str
    toolkit_version: str = __version__

    @classmethod
    def of(cls, language: LanguageModel, task: str, **rule: Any) -> "TextProtocol":
        """The protocol of a task on this model; the rule is JSON-ready."""
        parameters = sum(parameter.numel() for parameter in language.model.parameters())
        dtype = str(language.model.embedding.weight.dtype).removeprefix("torch.")
        return cls(task, rule, language.name, language.sha256, language.tokenizer.sha256, parameters, dtype)

    @property
    def hash(self) -> str:
        """Equal for scores that may be compared: of the task and its rule alone."""
        said = json.dumps({"task": self.task, "rule": dict(self.rule)}, sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()[:12]

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, with the hash."""
        return {**vars(self), "rule": dict(self.rule), "hash": self.hash}


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """Ends of the 95 % interval of a share of hits (Wilson, J. Am. Stat. Assoc. 22, 1927); (0, 1) without trials."""
    if trials == 0:
        return 0.0, 1.0
    share = hits / trials
    middle = share + Z**2 / (2 * trials)
    half = Z * math.sqrt(share * (1 - share) / trials + (Z / (2 * trials)) ** 2)
    scale = 1 + Z**2 / trials
    low, high = (middle - half) / scale, (middle + half) / scale
    return low if hits else 0.0, high if hits < trials else 1.0
