"""Safetensors files in a stream: the header checked before any data is read, one tensor in memory at a time.

Source: the format's description in the safetensors documentation (8 bytes of length, a JSON header, the data).
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nirvana_mri.errors import CheckpointError, UsageError

LONGEST_HEADER = 16 * 2**20  # bytes; the published 1.3B model has 0.1 MB
KINDS = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
_KIND_OF = {dtype: kind for kind, dtype in KINDS.items()}

Layout = Mapping[str, tuple[torch.dtype, tuple[int, ...]]]  # in the order of the data


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies in a file; kind is the format's word for its dtype, start the offset in the file."""

    file: Path
    name: str
    kind: str
    shape: tuple[int, ...]
    start: int
    nbytes: int

    @property
    def dtype(self) -> torch.dtype:
        """Raises: CheckpointError where the numbers are no floating-point numbers of 16, 32 or 64 bits."""
        if self.kind not in KINDS:
            raise CheckpointError(f"{self.file}: {self.name} is {self.kind:.20}; expected one of {', '.join(KINDS)}")
        return KINDS[self.kind]

    def read(self) -> Tensor:
        """The tensor in its stored dtype. Raises: CheckpointError where the file has shrunk, or memory is short."""
        try:
            tensor = torch.empty(self.shape, dtype=self.dtype)
        except RuntimeError as problem:
            size = f"{self.nbytes / 1e9:.1f} GB"
            raise CheckpointError(f"{self.file}: no memory for {self.name} ({size}); use a larger machine") from problem
        with self.file.open("rb") as file:
            file.seek(self.start)
            if file.readinto(raw_bytes(tensor)) != self.nbytes:
                raise CheckpointError(f"{self.file}: ends inside {self.name}; it changed while it was read, try again")
        return tensor


@dataclass(frozen=True)
class Header:
    """What the header of a safetensors file says: its metadata, and where each tensor lies."""

    metadata: dict[str, str]
    tensors: dict[str, StoredTensor]


def read_header(path: Path) -> Header:
    """The checked header. No data is read, and no more than 16 MiB whatever the file declares.

    Raises: UsageError where there is no such file; CheckpointError where the header is damaged, or does not account for
    every byte of the data exactly once.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file; name a .safetensors file")
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 10 or length > min(LONGEST_HEADER, size - 8):
            raise CheckpointError(
                f"{path}: not a complete safetensors file (header of {length} bytes in a file of {size}); fetch it anew"
            )
        found = strict_json(file.read(length), f"{path}: header")
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: header is a {type(found).__name__}, not an object; no safetensors file?")
    metadata = found.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError(f"{path}: __metadata__ must map words to words; damaged file?")
    tensors = {name: _stored(path, name, entry, 8 + length) for name, entry in found.items()}
    _require_no_gap(path, list(tensors.values()), 8 + length, size)
    return Header(metadata, tensors)


def _stored(path: Path, name: str, entry: object, data: int) -> StoredTensor:
    match entry:
        case {"dtype": str(kind), "shape": list(shape), "data_offsets": [first, stop], **others} if not others:
            if all(type(number) is int and number >= 0 for number in (*shape, first, stop)) and first <= stop:
                stored = StoredTensor(path, name, kind, tuple(shape), data + first, stop - first)
                if kind not in KINDS or math.prod(shape) * KINDS[kind].itemsize == stop - first:
                    return stored
    raise CheckpointError(f"{path}: header entry of {name:.120} contradicts itself or the format; damaged file?")


def _require_no_gap(path: Path, tensors: list[StoredTensor], start: int, size: int) -> None:
    for tensor in sorted(tensors, key=lambda tensor: (tensor.start, tensor.nbytes)):
        if tensor.start != start:
            raise CheckpointError(
                f"{path}: {tensor.name:.120} does not begin where the last tensor ends; damaged file?"
            )
        start += tensor.nbytes
    if start != size:
        raise CheckpointError(f"{path}: {size} bytes long, but its header describes {start}; is it complete?")


def header_bytes(layout: Layout, metadata: Mapping[str, str]) -> bytes:
    """The first bytes of a file with these tensors: length, header, and spaces up to a multiple of 8."""
    entries: dict[str, Any] = {"__metadata__": dict(metadata)}
    for name, start, (dtype, shape) in _placed(layout):
        stop = start + math.prod(shape) * dtype.itemsize
        entries[name] = {"dtype": _KIND_OF[dtype], "shape": list(shape), "data_offsets": [start, stop]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _placed(layout: Layout) -> Iterator[tuple[str, int, tuple[torch.dtype, tuple[int, ...]]]]:
    start = 0
    for name, (dtype, shape) in layout.items():
        yield name, start, (dtype, shape)
        start += math.prod(shape) * dtype.itemsize


def raw_bytes(tensor: Tensor) -> memoryview:
    """The memory of a contiguous CPU tensor; writing there changes the tensor."""
    return tensor.view(-1).view(torch.uint8).numpy().data


def strict_json(text: bytes | str, where: str) -> Any:
    """The value of a JSON text; a key that comes twice, NaN and infinity are refused.

    Raises: CheckpointError, which begins with ``where``.
    """
    try:
        decoded = text if isinstance(text, str) else text.decode("utf-8")
        return json.loads(decoded, object_pairs_hook=_unique, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError) as problem:
        raise CheckpointError(f"{where}: not readable JSON ({problem!s:.120}); damaged file?") from problem


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key:.80} comes twice")
        found[key] = value
    return found


def _finite(word: str) -> float:
    if not math.isfinite(value := float(word)):
        raise ValueError(f"{word:.40} is no finite number")
    return value
