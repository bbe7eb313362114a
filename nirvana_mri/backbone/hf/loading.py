"""The authors' tensor names on transformers' way from and to files, with nothing missing or left over."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from nirvana_mri.backbone.config import BackboneConfig
from nirvana_mri.backbone.model import NirvanaLM
from nirvana_mri.backbone.published import (
    published_name,
    published_parameters,
    require_names,
    require_shape,
    require_tied,
    require_values,
)
from nirvana_mri.errors import CheckpointError, UsageError

WRAPPED = "model."  # where the wrappers keep their NirvanaLM
EMBEDDING, HEAD = WRAPPED + "embedding.weight", WRAPPED + "head.weight"


def key_mapping() -> dict[str, str]:
    """Patterns of published tensor names, each with the wrapper's name for what it matches."""
    with torch.device("meta"):  # the sizes do not matter, the kinds of layers do
        names = dict(NirvanaLM(replace(BackboneConfig.nano(), tie_word_embeddings=False)).named_parameters())
    mapping = {}
    for name in names:
        pattern = re.sub(r"layers\\\.\d+", r"layers\\.(\\d+)", re.escape(published_name(name)))
        mapping[f"^{pattern}$"] = WRAPPED + re.sub(r"layers\.\d+", r"layers.\\1", name)
    return mapping


def require_whole(model: NirvanaLM, info: Mapping[str, Any], source: object) -> None:
    """Refuse what transformers only warns of. Raises: CheckpointError.

    That is a tensor that is missing, left over, misshapen or not finite, and a head that differs from the embedding to
    which the configuration ties it.
    """
    where, tied = f"{source}: ", model.config.tie_word_embeddings
    missing = {_published(name) for name in info["missing_keys"] if not (tied and name == HEAD)}
    expected = {published_name(name) for name, _ in model.named_parameters()} | missing
    found = (expected - missing) | {_published(name) for name in info["unexpected_keys"]}
    require_names(expected, found, where)
    for name, stored, needed in sorted(info["mismatched_keys"]):
        require_shape(_published(name), tuple(stored), tuple(needed), where)
    if info["error_msgs"]:
        raise CheckpointError(f"{where}{'; '.join(info['error_msgs']):.300}")
    for name, parameter in published_parameters(model).items():
        if not parameter.is_meta:
            require_values(name, parameter.detach(), parameter.dtype, where)
    head = model.head
    if head is not None and tied and head.weight is not model.embedding.weight:
        require_tied(head.weight, model.embedding.weight, where)


def published_state(state: Mapping[str, Tensor], tied: bool) -> dict[str, Tensor]:
    """A wrapper's tensors under the authors' names; a tied head is left out, as it is no tensor of its own."""
    named = {}
    for name, tensor in state.items():
        if tied and name == HEAD:
            continue
        try:
            named[published_name(name.removeprefix(WRAPPED))] = tensor
        except KeyError as problem:
            raise UsageError(
                f"{name} has no place in a published checkpoint; merge adapters first (PEFT: merge_and_unload)"
            ) from problem
    return named


def wrapped_state(state: Mapping[str, Tensor], model: NirvanaLM) -> dict[str, Tensor]:
    """The same tensors under the wrapper's names, a tied head added; names that are not the authors' stay."""
    ours = {_published(name): WRAPPED + name for name, _ in model.named_parameters()}
    named = {ours.get(name, name): tensor for name, tensor in state.items()}
    if model.config.tie_word_embeddings and (embedding := named.get(EMBEDDING)) is not None:
        named.setdefault(HEAD, embedding)
    return named


def _published(name: str) -> str:
    """The authors' name of a wrapper's tensor; a name that is not ours as it is."""
    try:
        return published_name(name.removeprefix(WRAPPED))
    except KeyError:
        return name
