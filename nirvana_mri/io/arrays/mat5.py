"""Numeric arrays of MATLAB files of level 5 (save -v6, -v7), read within bounds.

Layout: MathWorks, MAT-File Format, level 5. Structures, cells, objects and sparse matrices are passed over.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.errors import ScanError
from nirvana_mri.io.hdf5 import LARGEST_READ, most_unpacked

MATRIX, COMPRESSED = 14, 15
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
NUMERIC_CLASSES = range(6, 16)  # double, single and the integers
COMPLEX = 0x08
PREFIX = 4096  # flags, dimensions and name lie within the first bytes of a matrix
HEADER = 128


@dataclass(frozen=True)
class MatArray:
    """A numeric array of the file: what it is called, how large it is, and where it lies."""

    name: str = field(repr=False)  # people call arrays after patients
    shape: tuple[int, ...]
    is_complex: bool
    offset: int
    size: int
    packed: bool


class _Damaged(ValueError):
    """The bytes contradict the format."""


def list_mat5(path: Path) -> list[MatArray]:
    """The numeric arrays of a file. Raises: ScanError for a damaged one."""
    found = []
    try:
        with path.open("rb") as file:
            order = _byte_order(file)
            for kind, offset, size in _elements(file, order):
                head = _start(file, order, kind, offset, size)
                described = _describe(head, order) if head else None
                if described:
                    found.append(MatArray(*described[:3], offset, size, kind == COMPRESSED))
    except (_Damaged, struct.error, zlib.error, OSError) as problem:
        raise _error(path, problem) from problem
    return found


def read_mat5(path: Path, array: MatArray) -> NDArray[Any]:
    """All of one array, complex64 or real, axes as in MATLAB.

    Raises: ScanError where it is damaged, or declares more than the file can hold.
    """
    if math.prod(array.shape) * 16 > LARGEST_READ * 2:
        raise ScanError(f"{path}: {array.shape} is larger than {LARGEST_READ >> 30} GiB; save it with -v7.3")
    try:
        with path.open("rb") as file:
            order = _byte_order(file)
            file.seek(array.offset)
            body = memoryview(_unpack(file.read(array.size), order) if array.packed else file.read(array.size))
        return _values(body, order)
    except (_Damaged, struct.error, zlib.error, OSError) as problem:
        raise _error(path, problem) from problem


def _error(path: Path, problem: Exception) -> ScanError:
    return ScanError(f"{path}: damaged MATLAB file ({problem}); save it again")


def _byte_order(file: IO[bytes]) -> str:
    mark = file.read(HEADER)[126:]
    if mark not in (b"IM", b"MI"):
        raise _Damaged("no byte order mark")
    return "<" if mark == b"IM" else ">"


def _elements(file: IO[bytes], order: str) -> Iterator[tuple[int, int, int]]:
    """Type, offset and size of the bodies at the top level."""
    end = file.seek(0, 2)
    offset = HEADER
    while offset + 8 <= end:
        file.seek(offset)
        kind, size = struct.unpack(order + "II", file.read(8))
        if kind not in (MATRIX, COMPRESSED) or offset + 8 + size > end:
            raise _Damaged(f"an element of type {kind} and {size} bytes at byte {offset} of {end}")
        yield kind, offset + 8, size
        offset += 8 + size


def _start(file: IO[bytes], order: str, kind: int, offset: int, size: int) -> bytes:
    """The first bytes of a matrix's body; empty where a packed element is none."""
    file.seek(offset)
    if kind == MATRIX:
        return file.read(min(size, PREFIX))
    head = zlib.decompressobj().decompress(file.read(min(size, PREFIX)), PREFIX)
    return head[8:] if len(head) > 8 and struct.unpack(order + "I", head[:4])[0] == MATRIX else b""


def _unpack(packed: bytes, order: str) -> bytes:
    """The body of a packed matrix, never more of it than its own tag declares."""
    unpacker = zlib.decompressobj()
    tag = unpacker.decompress(packed, 8)
    if len(tag) < 8:
        raise _Damaged("an element without a tag")
    declared = struct.unpack(order + "II", tag)[1]
    if declared > min(most_unpacked(len(packed)), 2 * LARGEST_READ):
        raise _Damaged(f"{len(packed)} packed bytes that declare {declared}")
    body = unpacker.decompress(unpacker.unconsumed_tail, declared) if declared else b""
    if len(body) < declared:
        raise _Damaged(f"an element ends after {len(body)} of {declared} bytes")
    return body


def _next(body: bytes | memoryview, at: int, order: str) -> tuple[int, int, int, int]:
    """Type, begin and end of the subelement at ``at``, and where the next begins."""
    kind, size = struct.unpack_from(order + "II", body, at)
    if kind >> 16:  # a small one: up to four bytes within the tag
        kind, size = kind & 0xFFFF, kind >> 16
        if size > 4:
            raise _Damaged(f"a small element of {size} bytes")
        return kind, at + 4, at + 4 + size, at + 8
    return kind, at + 8, at + 8 + size, at + 8 + -(-size // 8) * 8


def _describe(body: bytes | memoryview, order: str) -> tuple[str, tuple[int, ...], bool, int] | None:
    """Name, shape, whether complex, and where the numbers begin; None for what holds no plain numbers."""
    kind, begin, end, at = _next(body, 0, order)
    if kind != 6 or end - begin != 8:
        raise _Damaged("a matrix without flags")
    flags = struct.unpack_from(order + "I", body, begin)[0]
    if flags & 0xFF not in NUMERIC_CLASSES:
        return None
    kind, begin, end, at = _next(body, at, order)
    rank = (end - begin) // 4
    if kind != 5 or not 1 <= rank <= 32 or end > len(body):
        raise _Damaged("a matrix without dimensions")
    shape = struct.unpack_from(f"{order}{rank}i", body, begin)
    if any(n < 0 for n in shape) or math.prod(shape) >= 1 << 48:
        raise _Damaged(f"dimensions {shape}")
    kind, begin, end, at = _next(body, at, order)
    if kind != 1 or end > len(body):
        raise _Damaged("a matrix without a name")
    name = bytes(body[begin:end]).decode("ascii", "replace")
    return name, shape, bool(flags >> 8 & COMPLEX), at


def _values(body: memoryview, order: str) -> NDArray[Any]:
    described = _describe(body, order)
    if described is None:
        raise _Damaged("no numbers")
    _, shape, is_complex, at = described
    parts = []
    for _ in range(2 if is_complex else 1):
        kind, begin, end, at = _next(body, at, order)
        count = math.prod(shape)
        if kind not in NUMBERS or end > len(body) or end - begin != count * np.dtype(NUMBERS[kind]).itemsize:
            raise _Damaged(f"{end - begin} bytes of type {kind} for {shape}")
        parts.append(np.frombuffer(body, order + NUMBERS[kind], count, begin))
    if not is_complex:
        return parts[0].reshape(shape, order="F")
    values = np.empty(parts[0].size, np.complex64)
    with np.errstate(over="ignore", invalid="ignore"):  # beyond complex64: Inf, which check_slice refuses
        values.real, values.imag = parts
    return values.reshape(shape, order="F")
