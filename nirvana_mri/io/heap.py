"""HDF5's heap of strings and lists of variable length, read without HDF5 (file format specification 3.0, III.E).

A string or list is stored as (length, heap address, number). HDF5 makes room for whatever length is claimed before it
looks for the data, and a damaged heap can make it search forever; here the data are looked up first, and what is not
in the file is never allocated. Addresses count from the end of the file's userblock.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np

LIST = np.dtype([("length", "<u4"), ("address", "<u8"), ("number", "<u4")])  # with addresses of 8 bytes, as always


class RawError(ValueError):
    """What is wrong with the stored bytes, in words; the reader adds the path."""


def exactly(raw: BinaryIO, size: int) -> bytes:
    """The next ``size`` bytes. Raises: RawError where the file ends before."""
    content = raw.read(size)
    if len(content) != size:
        raise RawError("ends before its data; the file is truncated, copy it again")
    return content


def read_string(path: Path, offset: int, userblock: int, longest: int) -> bytes:
    """The string whose (length, address, number) is stored at byte ``offset``. Raises: RawError, OSError."""
    with Heap(path, userblock) as heap:
        heap.raw.seek(offset)
        length, address, number = struct.unpack("<IQI", exactly(heap.raw, LIST.itemsize))
        if length > longest:
            raise RawError(f"claims {length} bytes, expected at most {longest}; copy it again")
        return heap.bytes_at(int(address), int(number), int(length)) if length else b""


class Heap:
    """The lists of a file: bytes at (address, number), read only where the file really holds them."""

    def __init__(self, path: Path, base: int) -> None:
        self.path, self.base = path, base
        self.bytes_present = path.stat().st_size
        self.raw = path.open("rb")
        self._address, self._places = -1, dict[int, tuple[int, int]]()

    def __enter__(self) -> Heap:
        return self

    def __exit__(self, *_: object) -> None:
        self.raw.close()

    def bytes_at(self, address: int, number: int, size: int) -> bytes:
        """The first ``size`` bytes of object ``number`` in the collection at ``address``. Raises: RawError."""
        if address != self._address:
            self._places = self._collection(address)
            self._address = address
        start, stored = self._places.get(number, (0, 0))
        if stored < size:
            raise RawError(f"claims {size} bytes where the file holds {stored}; copy it again")
        self.raw.seek(start)
        return exactly(self.raw, size)

    def _collection(self, address: int) -> dict[int, tuple[int, int]]:
        """Number → (offset, size) of every object of a collection."""
        start = self.base + address
        try:
            self.raw.seek(min(start, self.bytes_present))
            signature, size = struct.unpack("<4s4xQ", self.raw.read(16).ljust(16, b"\0"))
            end = start + int(size)
            if signature != b"GCOL" or end > self.bytes_present:
                raise RawError("points to data that the file does not hold; it may be truncated, copy it again")
            places: dict[int, tuple[int, int]] = {}
            here = start + 16
            while here + 16 <= end:
                self.raw.seek(here)
                number, stored = struct.unpack("<H6xQ", self.raw.read(16))
                if number == 0 and 16 <= stored <= end - here:
                    break  # the free space, always last; its size counts its own 16 bytes
                if number == 0 or number in places or here + 16 + stored > end:
                    raise RawError("is in a heap without order; the file is damaged, copy it again")
                places[number] = (here + 16, int(stored))
                here += 16 + (int(stored) + 7) // 8 * 8
        except struct.error as problem:
            raise RawError("ends inside a list; the file is truncated, copy it again") from problem
        return places
