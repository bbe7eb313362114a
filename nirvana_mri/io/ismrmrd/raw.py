"""HDF5's own bytes of a table of records, whose lists of variable length (io/heap.py) stay where they are.

Formats: HDF5 file format specification 3.0, section IV.A.2.l (filters).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import h5py
import numpy as np
from numpy.typing import NDArray

from nirvana_mri.io.hdf5 import SafeFile
from nirvana_mri.io.heap import LIST, RawError, exactly

BATCH = 1 << 22  # bytes of records in memory at a time
LARGEST_RECORD = 1 << 16
GZIP, SHUFFLE, FLETCHER = 1, 2, 3


@dataclass(frozen=True)
class _Piece:
    """Consecutive records as the file holds them: at a byte offset, packed or not."""

    first: int
    offset: int
    stored: int
    skipped: int  # HDF5's filter mask: bit i says that filter i was not applied


def disk_type(table: h5py.Dataset) -> np.dtype[Any]:
    """The type of one record of ``table`` on disk; fields of variable length become LIST.

    Raises: RawError for a table that is not a short list of records.
    """
    if table.ndim != 1 or table.dtype.names is None or not 0 < table.dtype.itemsize <= LARGEST_RECORD:
        raise RawError(f"is {table.dtype.kind} {table.shape}, expected a list of records")
    if table.file.id.get_create_plist().get_sizes() != (8, 8):
        raise RawError("has addresses that are not 8 bytes long; copy the file with h5repack")
    fields = table.dtype.fields or {}
    names = list(table.dtype.names)
    formats = [LIST if h5py.check_vlen_dtype(fields[name][0]) is not None else fields[name][0] for name in names]
    if any(kind.hasobject for kind in formats):
        raise RawError("has fields that are neither numbers nor lists of numbers")
    offsets = [int(fields[name][1]) for name in names]
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": table.dtype.itemsize})


def records(file: SafeFile, table: h5py.Dataset, kind: np.dtype[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    """(first number, records) of ``table``, a few megabytes at a time, in any order; each record once.

    Raises: RawError where the file does not hold them.
    """
    pieces = _pieces(table, kind.itemsize)
    width = (table.chunks or table.shape)[0]
    filters = _filters(table)
    many = max(BATCH // (width * kind.itemsize), 1) if table.chunks else 1
    with file.path.open("rb") as raw:
        for start in range(0, len(pieces), many):
            batch = pieces[start : start + many]
            if not table.chunks:
                yield from _contiguous(raw, batch[0], table.shape[0], kind)
                continue
            content = b"".join(_unpacked(raw, piece, filters, width * kind.itemsize) for piece in batch)
            every = np.frombuffer(content, kind).reshape(len(batch), width)
            for piece, several in zip(batch, every, strict=True):
                yield piece.first, several[: table.shape[0] - piece.first]


def _contiguous(raw: BinaryIO, piece: _Piece, count: int, kind: np.dtype[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    step = max(BATCH // kind.itemsize, 1)
    raw.seek(piece.offset)
    for first in range(0, count, step):
        several = min(step, count - first)
        yield first, np.frombuffer(exactly(raw, several * kind.itemsize), kind)


def _pieces(table: h5py.Dataset, itemsize: int) -> list[_Piece]:
    """Where the records lie, in the order of the file's bytes."""
    count = int(table.shape[0])
    if not table.chunks:
        offset = table.id.get_offset()
        if offset is None:
            raise RawError("is stored inside its own header; copy the file with h5repack -l CONTI")
        return [_Piece(0, int(offset), count * itemsize, 0)]
    width = int(table.chunks[0])
    expected = -(-count // width)
    found: dict[int, _Piece] = {}

    def look(info: Any) -> bool | None:
        first = int(info.chunk_offset[0])
        if first < count:
            found[first] = _Piece(first, int(info.byte_offset), int(info.size), int(info.filter_mask))
        return True if len(found) > expected else None  # True ends the search

    table.id.chunk_iter(look)
    if sorted(found) != list(range(0, count, width)):
        raise RawError(f"holds {len(found)} of {expected} pieces of its list; copy the file again")
    return sorted(found.values(), key=lambda piece: piece.offset)


def _filters(table: h5py.Dataset) -> list[tuple[int, tuple[int, ...]]]:
    plist = table.id.get_create_plist()
    filters = [plist.get_filter(i) for i in range(plist.get_nfilters())]
    if any(number not in (GZIP, SHUFFLE, FLETCHER) for number, *_ in filters):
        raise RawError("is packed with a filter other than gzip and shuffle; copy the file with h5repack -f NONE")
    return [(int(number), tuple(int(value) for value in values)) for number, _, values, _ in filters]


def _unpacked(raw: BinaryIO, piece: _Piece, filters: list[tuple[int, tuple[int, ...]]], size: int) -> bytes:
    """The ``size`` bytes that a piece of a chunked table stands for."""
    if piece.stored > 2 * size + 64:
        raise RawError(f"has a piece of {piece.stored} bytes for {size} bytes of records; copy the file again")
    raw.seek(piece.offset)
    content = exactly(raw, piece.stored)
    for place, (number, values) in reversed(list(enumerate(filters))):
        if piece.skipped >> place & 1:
            continue
        if number == FLETCHER:
            content = content[:-4]
        elif number == GZIP:
            try:
                content = zlib.decompressobj().decompress(content, size + 4)
            except zlib.error as problem:
                raise RawError("has a piece that does not unpack; copy the file again") from problem
        elif values and values[0] > 1:
            whole = len(content) // values[0] * values[0]
            shuffled = np.frombuffer(content[:whole], np.uint8).reshape(values[0], -1)
            content = shuffled.T.tobytes() + content[whole:]
    if len(content) != size:
        raise RawError(f"has a piece of {len(content)} bytes, expected {size}; copy the file again")
    return content
