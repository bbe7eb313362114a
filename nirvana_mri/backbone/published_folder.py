"""The authors' Hugging Face folder: its files, configuration and tensors, all checked before any weight is read."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nirvana_mri.backbone.config import BackboneConfig
from nirvana_mri.backbone.layout import StoredTensor, read_header, strict_json
from nirvana_mri.backbone.published import EMBEDDING, HEAD, published_shapes, require_names, require_shape
from nirvana_mri.errors import CheckpointError, UsageError

CONFIG, WHOLE, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
MODEL_TYPE = "transformer_rnn"  # what the authors' code calls a Nirvana model
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
LONGEST_JSON = 16 * 2**20
_SHARD = re.compile(r"-\d+-of-\d+\.safetensors$")
_WHOLE_NUMBER, _NUMBER = ((int, type(None)), "a whole number"), ((int, float), "a number")
_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    **dict.fromkeys(("vocab_size", "hidden_size", "num_hidden_layers", "num_heads"), _WHOLE_NUMBER),
    **dict.fromkeys(("concept_dim", "logit_dim", "intermediate_size", "pad_token_id"), _WHOLE_NUMBER),
    "attention_window": _WHOLE_NUMBER,
    **dict.fromkeys(("norm_eps", "initializer_range", "trigger_rate"), _NUMBER),
    "hidden_ratio": ((int, float, type(None)), "a number"),
    "tie_word_embeddings": ((bool,), "true or false"),
}


@dataclass(frozen=True)
class PublishedFolder:
    """The files of a checkpoint in the authors' format; without an index there is one shard."""

    config: Path
    shards: tuple[Path, ...]
    index: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.config, *self.shards, *([self.index] if self.index else []))


def find_published(source: Path) -> PublishedFolder:
    """The files behind a folder, a .safetensors file, or an index.

    In a folder model.safetensors comes before the index, as in transformers. Raises: UsageError for a path that is not
    there, is one shard of several or is a pickle; CheckpointError for a folder that lacks a file.
    """
    if source.suffix in PICKLES:
        raise _pickle(source)
    if source.is_dir():
        return _in_folder(source)
    if not source.is_file():
        raise UsageError(f"{source}: no such folder or file; name the folder that holds {CONFIG} and {WHOLE}")
    if source.name.endswith(".index.json"):
        return PublishedFolder(_config_beside(source), _shards(source), source)
    if source.suffix != ".safetensors":
        raise UsageError(f"{source}: expected a folder, a .safetensors file or {INDEX}")
    if _SHARD.search(source.name):
        raise UsageError(f"{source} is one shard of several; name the folder that holds them: {source.parent}")
    return PublishedFolder(_config_beside(source), (source,))


def _in_folder(folder: Path) -> PublishedFolder:
    whole, index = folder / WHOLE, folder / INDEX
    if whole.is_file():
        return PublishedFolder(_config_beside(whole), (whole,))
    if index.is_file():
        return PublishedFolder(_config_beside(index), _shards(index), index)
    if pickles := sorted(path for path in folder.iterdir() if path.suffix in PICKLES):
        raise _pickle(pickles[0])
    others = sorted(path.name for path in folder.glob("*.safetensors"))
    found = f"; it holds {', '.join(others[:3])}: name the file itself" if others else "; is the download complete?"
    raise CheckpointError(f"{folder}: holds neither {WHOLE} nor {INDEX}{found}")


def _config_beside(file: Path) -> Path:
    config = file.with_name(CONFIG)
    if not config.is_file():
        raise CheckpointError(
            f"{file.parent}: holds no {CONFIG}; the weights' sizes are read there, put it beside them"
        )
    return config


def _pickle(path: Path) -> UsageError:
    return UsageError(
        f"{path} is a pickle, which can run any program when it is opened; where you trust it, convert it with "
        f"safetensors.torch.save_file(torch.load({path.name!r}, weights_only=True), {WHOLE!r})"
    )


def _shards(index: Path) -> tuple[Path, ...]:
    """The shards that an index names, in its folder."""
    shards = sorted(set(_weight_map(index).values()))
    for name in shards:
        if Path(name).name != name or not name.endswith(".safetensors") or not name.isprintable():
            raise CheckpointError(
                f"{index}: names the shard {name:.120}, which is no .safetensors file in its own folder"
            )
    missing = [name for name in shards if not (index.parent / name).is_file()]
    if missing:
        raise CheckpointError(f"{index}: {len(missing)} of {len(shards)} shards missing ({missing[0]}); fetch them too")
    return tuple(index.parent / name for name in shards)


def _weight_map(index: Path) -> dict[str, str]:
    found = _json_object(index).get("weight_map")
    if not isinstance(found, dict) or not found or not all(isinstance(shard, str) for shard in found.values()):
        raise CheckpointError(f"{index}: weight_map must say which shard holds each tensor; damaged file?")
    return found


def _json_object(path: Path) -> dict[str, Any]:
    if path.stat().st_size > LONGEST_JSON:
        raise CheckpointError(f"{path}: {path.stat().st_size} bytes long; expected a short JSON file")
    found = strict_json(path.read_bytes(), str(path))
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: is a JSON {type(found).__name__}; expected an object")
    return found


def published_config(path: Path, window_size: int | None = None) -> BackboneConfig:
    """The configuration in a config.json; the window is the caller's, since the released blocks ignore their own.

    What our transformers adapter saves says more: attention_window (which the caller's replaces) and trigger_rate.
    Raises: CheckpointError for another model's configuration and for impossible values.
    """
    found = _json_object(path)
    _require_nirvana(path, found)
    for key, (kinds, expected) in _KINDS.items():
        if key in found and type(found[key]) not in kinds:
            raise CheckpointError(f"{path}: {key} is {found[key]!r:.80}; expected {expected}")
    try:
        config = BackboneConfig.from_published(found, window_size or found.get("attention_window"))
        return dataclasses.replace(config, trigger_rate=found.get("trigger_rate", config.trigger_rate))
    except (UsageError, ValueError, OverflowError) as problem:
        raise CheckpointError(f"{path}: {problem!s:.300}") from problem


def _require_nirvana(path: Path, found: Mapping[str, Any]) -> None:
    kind, classes = found.get("model_type"), found.get("architectures")
    names = [kind] if kind is not None else []
    names += classes if isinstance(classes, list) else []
    for name in names:
        if not (str(name) == MODEL_TYPE or "nirvana" in str(name).lower() or str(name).endswith("_rnn")):
            raise CheckpointError(
                f"{path}: describes a {name!s:.80} model; only Nirvana's (model_type {MODEL_TYPE}) can be imported"
            )


def published_tensors(folder: PublishedFolder, config: BackboneConfig) -> dict[str, StoredTensor]:
    """Where each of the model's tensors lies, by name; lm_head.weight among them where it is there.

    Only headers are read. Raises: CheckpointError for a missing, unexpected, misshapen or repeated tensor, or an index
    that contradicts its shards.
    """
    where = f"{folder.config.parent}: "
    found: dict[str, StoredTensor] = {}
    for shard in folder.shards:
        for name, stored in read_header(shard).tensors.items():
            if name in found:
                raise CheckpointError(f"{where}{name:.120} is in {found[name].file.name} and again in {shard.name}")
            found[name] = stored
    if folder.index is not None:
        _require_same_places(folder.index, found)
    try:
        shapes = published_shapes(config)
    except UsageError as problem:
        raise CheckpointError(f"{folder.config}: {problem}") from problem
    copies = {HEAD} if config.tie_word_embeddings else set()
    require_names(shapes.keys(), found.keys() - copies, where)
    for name, stored in found.items():
        expected = shapes[EMBEDDING if name in copies else name]
        require_shape(name, stored.shape, expected, f"{stored.file}: ")
    return found


def _require_same_places(index: Path, found: Mapping[str, StoredTensor]) -> None:
    named = _weight_map(index)
    for name in sorted(named.keys() | found.keys()):
        place = found[name].file.name if name in found else "no shard"
        if named.get(name, "no shard") != place:
            raise CheckpointError(
                f"{index}: says that {name:.120} is in {named.get(name, 'no shard'):.120}, but it is in {place}; "
                "fetch index and shards of one revision"
            )
