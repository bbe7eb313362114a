"""From the authors' checkpoint to our backbone file, one tensor in memory at a time."""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nirvana_mri.atomic import check_target, same_file
from nirvana_mri.backbone.config import BackboneConfig
from nirvana_mri.backbone.file import BackboneFile, Progress, write_backbone
from nirvana_mri.backbone.layout import StoredTensor
from nirvana_mri.backbone.published import EMBEDDING, FLOATS, HEAD, require_tied, require_values
from nirvana_mri.backbone.published_folder import find_published, published_config, published_tensors
from nirvana_mri.backbone.tokenizer import BPETokenizer, load_tokenizer, require_fit
from nirvana_mri.errors import NirvanaError, UsageError


def import_published(
    source: str | Path,
    target: str | Path,
    window_size: int | None = None,
    dtype: torch.dtype | None = None,
    progress: Progress | None = None,
    origin: Mapping[str, Any] | None = None,
) -> BackboneFile:
    """Write a backbone file from a folder (or file) in the authors' format; what it says of itself comes out.

    Without ``dtype`` the weights keep the one that most of their numbers have; tensors of another are converted to it,
    and the result's warnings say so. Without ``window_size`` attention is full causal, as in the released model.
    ``origin`` is stored as the file's source. A tokenizer.json beside the weights goes into the file; where it does not
    fit, a warning says so. Memory: about two tensors.

    Raises: CheckpointError for a checkpoint that is incomplete, damaged or another model's (nothing is written);
    UsageError for arguments that cannot be.
    """
    folder = find_published(Path(source))
    _require_arguments(window_size, dtype)
    for given in folder.files:
        if same_file(given, target):
            raise UsageError(f"{target} is an input; name another file for the backbone")
    check_target(target)
    config = published_config(folder.config, window_size)
    stored = published_tensors(folder, config)
    common = _most_common(stored)  # refuses what is no floating-point number, before any data is read
    kept = dtype or common
    warnings = _conversions(stored, kept) if dtype is None else ()
    origin = {"folder": folder.config.absolute().parent.name} if origin is None else origin

    def fetch(name: str) -> Tensor:
        tensor = stored[name].read()
        require_values(name, tensor, kept, f"{stored[name].file}: ")
        if name == EMBEDDING and config.tie_word_embeddings and HEAD in stored:
            require_tied(stored[HEAD].read(), tensor, f"{stored[HEAD].file}: ")
        return tensor

    tokenizer, unfit = _tokenizer(folder.config.parent / "tokenizer.json", config)
    made = write_backbone(target, config, kept, fetch, origin, progress, tokenizer)
    return dataclasses.replace(made, warnings=warnings + unfit)


def _tokenizer(path: Path, config: BackboneConfig) -> tuple[BPETokenizer | None, tuple[str, ...]]:
    """The tokenizer.json that lies with the weights, or why it stays outside."""
    if not path.is_file():
        return None, ()
    try:
        found = load_tokenizer(path)
        require_fit(found, config.vocab_size, None)
    except NirvanaError as problem:
        return None, (f"left out the tokenizer: {problem}",)
    return found if isinstance(found, BPETokenizer) else None, ()


def _require_arguments(window_size: int | None, dtype: torch.dtype | None) -> None:
    if window_size is not None and window_size < 1:
        raise UsageError(f"the window is {window_size} tokens; expected at least 1, the token itself")
    if dtype is not None and dtype not in FLOATS:
        raise UsageError(f"dtype is {dtype}; expected one of {', '.join(map(str, FLOATS))}")


def _most_common(stored: Mapping[str, StoredTensor]) -> torch.dtype:
    """The dtype of most of the numbers; of equally many, the wider."""
    sizes: Counter[torch.dtype] = Counter()
    for tensor in stored.values():
        sizes[tensor.dtype] += tensor.nbytes // tensor.dtype.itemsize
    return max(sizes, key=lambda dtype: (sizes[dtype], dtype.itemsize))


def _conversions(stored: Mapping[str, StoredTensor], kept: torch.dtype) -> tuple[str, ...]:
    others = sorted(name for name, tensor in stored.items() if tensor.dtype != kept)
    if not others:
        return ()
    return (f"{len(others)} of {len(stored)} tensors become {kept} like the rest ({others[0]}, ...); see --dtype",)
