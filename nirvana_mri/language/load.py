"""A backbone together with the tokenizer that it reads and writes with."""

from dataclasses import dataclass
from pathlib import Path

import torch

from nirvana_mri.backbone import NirvanaLM, inspect_backbone, load_backbone
from nirvana_mri.backbone.file import stored_tokenizer
from nirvana_mri.backbone.shipped import SHIPPED, shipped_backbone
from nirvana_mri.backbone.tokenizer import Tokenizer, load_tokenizer, require_fit
from nirvana_mri.errors import UsageError


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A frozen model that reads text; sha256 is the fingerprint of its weights."""

    model: NirvanaLM
    tokenizer: Tokenizer
    name: str
    sha256: str

    def __repr__(self) -> str:
        return f"LanguageModel({self.name}, {self.model.config.vocab_size:,} tokens, sha256 {self.sha256[:12]})"


def load_language_model(
    name: str | Path = "nano",
    tokenizer: str | Path | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = torch.float32,
) -> LanguageModel:
    """The shipped model of that name, or the one in a backbone file, with its tokenizer.

    A file that pretraining wrote holds its tokenizer; for one that holds none (published weights), ``tokenizer`` names
    a file or folder, or one lies beside it as tokenizer.json or tokenizer.model. Raises: UsageError for a name that is
    neither, or a tokenizer that is missing or does not match the model; CheckpointError for damaged files.
    """
    path = model_path(name)
    inside = stored_tokenizer(path)
    found: Tokenizer
    if tokenizer is not None:
        found = load_tokenizer(tokenizer)
    elif inside is not None:
        found = inside
    else:
        found = _beside(path)
    expected = None if inside is None else inside.sha256
    about = inspect_backbone(path)
    require_fit(found, about.config.vocab_size, expected, str(name))
    return LanguageModel(load_backbone(path, device, dtype), found, str(name), about.sha256)


def model_path(name: str | Path) -> Path:
    """The file of a shipped backbone, or the file of that name. Raises: UsageError."""
    if str(name) in SHIPPED:
        return shipped_backbone(str(name))
    if not Path(name).is_file():
        raise UsageError(f"model {str(name)!r} is neither a file nor a shipped backbone ({', '.join(SHIPPED)})")
    return Path(name)


def _beside(path: Path) -> Tokenizer:
    for name in ("tokenizer.json", "tokenizer.model"):
        if (path.parent / name).is_file():
            return load_tokenizer(path.parent / name)
    raise UsageError(f"{path} holds no tokenizer and none lies beside it; name one with --tokenizer FILE")
