"""One file holds one backbone: published weights, configuration, fingerprint, source."""

import dataclasses
import hashlib
import json
import math
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch
from torch import Tensor

from nirvana_mri import __version__
from nirvana_mri.atomic import atomic_path
from nirvana_mri.backbone.config import BackboneConfig
from nirvana_mri.backbone.fingerprint import Fingerprint
from nirvana_mri.backbone.layout import Header, header_bytes, raw_bytes, read_header, strict_json
from nirvana_mri.backbone.model import NirvanaLM
from nirvana_mri.backbone.published import (
    FLOATS,
    published_name,
    published_parameters,
    published_shapes,
    require_names,
    require_shape,
    require_values,
)
from nirvana_mri.backbone.tokenizer import BPETokenizer
from nirvana_mri.errors import CheckpointError, UsageError

FORMAT = "nirvana-backbone/1"
Progress = Callable[[int, int], None]  # tensors done, of how many


@dataclass(frozen=True)
class BackboneFile:
    """What a backbone file says of itself; sha256 is the fingerprint of its weights, warnings what was changed."""

    path: Path
    config: BackboneConfig
    dtype: torch.dtype
    parameters: int
    sha256: str
    source: Mapping[str, Any]
    toolkit_version: str
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        return {
            "file": str(self.path),
            "config": dataclasses.asdict(self.config),
            "parameters": self.parameters,
            "dtype": str(self.dtype).removeprefix("torch."),
            "sha256": self.sha256,
            "source": dict(self.source),
            "toolkit_version": self.toolkit_version,
        }


def save_backbone(
    model: NirvanaLM, path: str | Path, source: Mapping[str, Any], tokenizer: BPETokenizer | None = None
) -> None:
    """Write the model's weights and configuration, atomically, one tensor at a time; ``source`` goes in as JSON.

    A tokenizer goes into the same file, so that the model can read text wherever it is taken.

    Raises: UsageError for a model with several dtypes or without memory (meta device), CheckpointError for weights that
    are not finite.
    """
    parameters = published_parameters(model)
    dtypes = {parameter.dtype for parameter in parameters.values()}
    if len(dtypes) > 1 or not dtypes <= set(FLOATS) or any(p.is_meta for p in parameters.values()):
        held = ", ".join(sorted(map(str, dtypes)))
        raise UsageError(f"the model holds {held} on {model.norm.weight.device}; save one dtype, with model.to(dtype)")
    dtype = dtypes.pop()

    def fetch(name: str) -> Tensor:
        require_values(name, parameters[name].detach(), dtype)
        return parameters[name].detach().cpu()

    write_backbone(path, model.config, dtype, fetch, source, tokenizer=tokenizer)


def write_backbone(
    path: str | Path,
    config: BackboneConfig,
    dtype: torch.dtype,
    fetch: Callable[[str], Tensor],
    source: Mapping[str, Any],
    progress: Progress | None = None,
    tokenizer: BPETokenizer | None = None,
) -> BackboneFile:
    """Write a backbone whose tensors are fetched by their published names, one after the other.

    The header is written twice: first with room for the fingerprint, which is known only when the last tensor is out.
    ``fetch`` answers for its values. Whatever it raises, nothing is left behind. Raises: CheckpointError for a fetched
    tensor of another shape.
    """
    shapes = published_shapes(config)
    layout = {name: (dtype, shape) for name, shape in shapes.items()}
    fingerprint = Fingerprint()
    with atomic_path(path) as temporary, temporary.open("w+b") as file:
        file.write(header_bytes(layout, _metadata(config, source, "0" * 64, tokenizer)))
        for done, (name, shape) in enumerate(shapes.items(), start=1):
            tensor = fetch(name)
            require_shape(name, tuple(tensor.shape), shape)
            tensor = tensor.to(dtype).contiguous()
            fingerprint.add(name, tensor)
            file.write(raw_bytes(tensor))
            if progress is not None:
                progress(done, len(shapes))
        sha256 = fingerprint.hexdigest()
        file.seek(0)
        file.write(header_bytes(layout, _metadata(config, source, sha256, tokenizer)))
    return BackboneFile(Path(path), config, dtype, _count(shapes), sha256, source, __version__)


def load_backbone(path: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype | None = None) -> NirvanaLM:
    """The model in a file, frozen and in evaluation mode, in its stored dtype or the one asked for.

    It needs memory for the model and one tensor. Raises: CheckpointError for a file that is no backbone of ours or is
    damaged in any bit, UsageError for a path, device or dtype that cannot be.
    """
    _require_usable(device, dtype)
    config, header = _open(Path(path))
    fingerprint, tensors = Fingerprint(), {}
    for name, tensor in _stored_tensors(Path(path), header, fingerprint, dtype):
        tensors[name] = tensor.to(device, dtype)
    _require_sha256(Path(path), header, fingerprint)
    with torch.device("meta"):
        model = NirvanaLM(config)
    named = {name: tensors.pop(published_name(name)) for name, _ in list(model.named_parameters())}
    model.load_state_dict(named, strict=True, assign=True)
    return model.requires_grad_(False).eval()


def inspect_backbone(path: str | Path, progress: Progress | None = None) -> BackboneFile:
    """What a backbone file says of itself, after every byte of it was checked. Raises as load_backbone does."""
    path = Path(path)
    config, header = _open(path)
    fingerprint = Fingerprint()
    for done, _ in enumerate(_stored_tensors(path, header, fingerprint, None), start=1):
        if progress is not None:
            progress(done, len(header.tensors))
    _require_sha256(path, header, fingerprint)
    shapes = {name: stored.shape for name, stored in header.tensors.items()}
    dtype = next(iter(header.tensors.values())).dtype
    source = strict_json(header.metadata["source"], f"{path}: source")
    if not isinstance(source, dict):
        raise CheckpointError(f"{path}: source is {source!r:.80}, not an object; import it again")
    version = header.metadata["toolkit_version"]
    return BackboneFile(path, config, dtype, _count(shapes), header.metadata["sha256"], source, version)


def stored_tokenizer(path: str | Path) -> BPETokenizer | None:
    """The tokenizer in a backbone file, or None where it holds none. Raises as load_backbone does."""
    _, header = _open(Path(path))
    found = header.metadata.get("tokenizer")
    return None if found is None else BPETokenizer(found, str(path))


def _metadata(
    config: BackboneConfig, source: Mapping[str, Any], sha256: str, tokenizer: BPETokenizer | None = None
) -> dict[str, str]:
    """All that the header says besides the tensors; ``seal`` names every word of it, as sha256 does the weights."""
    words = {
        "format": FORMAT,
        "config": json.dumps(dataclasses.asdict(config), allow_nan=False),
        "sha256": sha256,
        "source": json.dumps(dict(source), allow_nan=False),
        "toolkit_version": __version__,
    }
    if tokenizer is not None:
        words["tokenizer"] = tokenizer.serialised
    return words | {"seal": _seal(words)}


def _seal(metadata: Mapping[str, str]) -> str:
    words = {key: value for key, value in metadata.items() if key != "seal"}
    return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()


def _open(path: Path) -> tuple[BackboneConfig, Header]:
    """The configuration and the header, which fit each other; no data is read."""
    header = read_header(path)
    metadata = header.metadata
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: format is {metadata.get('format', 'none'):.40}, not {FORMAT}; "
            "make a backbone file with: nirvana-mri backbone import"
        )
    lacking = {"config", "sha256", "source", "toolkit_version", "seal"} - metadata.keys()
    if lacking or metadata["seal"] != _seal(metadata):
        raise CheckpointError(f"{path}: its header is not as it was written; the file is damaged, import it again")
    try:
        config = _config(strict_json(metadata["config"], f"{path}: config"))
        shapes = published_shapes(config)
    except (UsageError, TypeError, ValueError, OverflowError) as problem:
        raise CheckpointError(f"{path}: impossible configuration ({problem!s:.200}); import it again") from problem
    require_names(shapes.keys(), header.tensors.keys(), f"{path}: ")
    for name, shape in shapes.items():
        require_shape(name, header.tensors[name].shape, shape, f"{path}: ")
    if len({stored.dtype for stored in header.tensors.values()}) > 1:
        raise CheckpointError(f"{path}: holds several dtypes; a backbone file has one, import it again")
    return config, header


def _config(found: object) -> BackboneConfig:
    """The configuration of a JSON object with the fields of BackboneConfig. Raises: UsageError, TypeError."""
    if not isinstance(found, dict):
        raise TypeError(f"expected an object, found {type(found).__name__}")
    hints = get_type_hints(BackboneConfig)
    for key, value in found.items():
        if key not in hints:
            raise TypeError(f"unknown key {key:.80}")
        allowed = get_args(hints[key]) if isinstance(hints[key], types.UnionType) else (hints[key],)
        if type(value) not in allowed and not (float in allowed and type(value) is int):
            raise TypeError(f"{key} is {value!r:.80}")
    return BackboneConfig(**found)


def _stored_tensors(
    path: Path, header: Header, fingerprint: Fingerprint, dtype: torch.dtype | None
) -> Iterator[tuple[str, Tensor]]:
    for name, stored in sorted(header.tensors.items()):
        tensor = stored.read()
        require_values(name, tensor, dtype or tensor.dtype, f"{path}: ")
        fingerprint.add(name, tensor)
        yield name, tensor


def _require_sha256(path: Path, header: Header, fingerprint: Fingerprint) -> None:
    found, expected = fingerprint.hexdigest(), header.metadata["sha256"]
    if found != expected:
        raise CheckpointError(f"{path}: sha256 is {found[:12]}, expected {expected:.12}; the file is damaged")


def _require_usable(device: str | torch.device, dtype: torch.dtype | None) -> None:
    if dtype is not None and dtype not in FLOATS:
        raise UsageError(f"dtype is {dtype}; expected one of {', '.join(map(str, FLOATS))}")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as problem:
        raise UsageError(f"device is {str(device)!r}, which torch cannot use here; try cpu") from problem


def _count(shapes: Mapping[str, tuple[int, ...]]) -> int:
    return sum(math.prod(shape) for shape in shapes.values())
