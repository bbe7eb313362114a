"""A look at HDF5's heap of strings before HDF5 itself reads it (HDF5 file format 3.0, section III.E)."""

from __future__ import annotations

import struct
from pathlib import Path


def string_is_sound(path: Path, offset: int, userblock: int, longest: int) -> bool:
    """False where HDF5 would allocate gigabytes for, or search forever, the string stored at byte ``offset``.

    A string of variable length is stored as (length, heap address, index); addresses count from the end of the
    ``userblock``. HDF5 2.0 makes room for any length before it looks, and never leaves a heap entry without size.
    """
    bytes_present = path.stat().st_size
    with path.open("rb") as raw:
        try:
            raw.seek(offset)
            length, address = struct.unpack("<IQ", raw.read(12))
            start = min(userblock + int(address), bytes_present)
            raw.seek(start)
            signature, size = struct.unpack("<4s4xQ", raw.read(16))
            end = start + int(size)
            if length > longest or signature != b"GCOL" or end > bytes_present:
                return False
            while raw.tell() + 16 <= end:
                index, entry = struct.unpack("<H6xQ", raw.read(16))
                if index == 0:  # the free space, always last; its size counts its own 16 bytes
                    return 16 <= int(entry) <= end - raw.tell() + 16
                raw.seek(min(raw.tell() + (int(entry) + 7) // 8 * 8, end + 1))
            return raw.tell() <= end
        except struct.error:
            return False
