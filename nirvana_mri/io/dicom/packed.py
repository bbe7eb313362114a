"""DICOM pixels in compressed transfer syntaxes: where the pieces of an image are, and decoding them by pydicom."""

from __future__ import annotations

import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.io.dicom.elements import UNDEFINED, DicomError
from nirvana_mri.io.dicom.tags import EXPLICIT, IMPLICIT, UNREAD

RLE = "1.2.840.10008.1.2.5"  # packed without a header of its own
Spans = tuple[tuple[int, int], ...]  # offset and length of the pieces of one image


def check_syntax(syntax: str) -> None:
    """Nothing where pixels of this transfer syntax can be read here; DicomError, naming it, where not."""
    if syntax in (IMPLICIT, EXPLICIT):
        return
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    name = UNREAD.get(syntax) or (UID(syntax).name if UID(syntax).is_transfer_syntax else "unknown")
    todo = "convert it to Explicit VR Little Endian (dcmconv +te, or dcmdjpeg for JPEG, or gdcmconv --raw)"
    if syntax in UNREAD:
        raise DicomError(f"its transfer syntax is {name}, which is not read here; {todo}")
    try:
        decoder = get_decoder(UID(syntax))
    except NotImplementedError:
        raise DicomError(f"its transfer syntax ({name}) is not read here; {todo}") from None
    if not decoder.is_available:
        raise DicomError(f"its pixels are packed as {name}, for which no decoder is installed; {todo}")


def packed_spans(path: Path, start: int, size: int, frames: int) -> list[Spans]:
    """The pieces of each image of encapsulated pixels (PS3.5, A.4). Raises: DicomError; OSError."""
    table, fragments = _fragments(path, start, size, frames)
    if frames == 1:
        return [tuple(fragments)]
    if len(fragments) == frames:
        return [(fragment,) for fragment in fragments]
    begins = {offset - fragments[0][0]: n for n, (offset, _) in enumerate(fragments)}
    if len(table) != frames or table[0] != 0 or any(offset not in begins for offset in table):
        raise DicomError(f"holds {len(fragments)} pieces of packed pixels for {frames} frames, and no table of them")
    edges = [begins[offset] for offset in table] + [len(fragments)]
    if sorted(set(edges)) != edges:
        raise DicomError("its table of packed frames is out of order; convert it again")
    return [tuple(fragments[a:b]) for a, b in pairwise(edges)]


def _fragments(path: Path, start: int, size: int, frames: int) -> tuple[list[int], list[tuple[int, int]]]:
    """(the basic offset table, (offset, length) of the fragments) of encapsulated pixels (PS3.5, A.4)."""
    found: list[tuple[int, int]] = []
    most = 64 * frames + 1024
    with path.open("rb") as file:
        while start + 8 <= size and len(found) <= most:
            file.seek(start)
            head = np.frombuffer(file.read(8), "<u2")
            length = int(head[2]) | int(head[3]) << 16
            if tuple(head[:2]) == (0xFFFE, 0xE0DD):
                break
            if tuple(head[:2]) != (0xFFFE, 0xE000) or length == UNDEFINED or start + 8 + length > size:
                raise DicomError("is cut short or damaged in its packed pixels; copy it again from its source")
            found.append((start + 8, length))
            start += 8 + length
        else:
            raise DicomError("its packed pixels have no end; copy it again from its source")
        if len(found) < 2:
            raise DicomError("holds no pixels; copy it again from its source")
        file.seek(found[0][0])
        table = np.frombuffer(file.read(min(found[0][1], 4 * frames) // 4 * 4), "<u4").tolist()
    return table, found[1:]


def unpack(content: bytes, syntax: str, shape: tuple[int, int], dtype: np.dtype[Any], bits_stored: int) -> NDArray[Any]:
    """One image, decoded by pydicom after its own header was found to have the size that is declared."""
    from pydicom.encaps import encapsulate
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    found = picture_size(content)
    if found != (None if syntax == RLE else shape):
        raise DicomError(f"holds a packed picture of size {found}, expected {shape}; copy it again")
    options: dict[str, Any] = {
        "rows": shape[0],
        "columns": shape[1],
        "samples_per_pixel": 1,
        "photometric_interpretation": "MONOCHROME2",
        "bits_allocated": dtype.itemsize * 8,
        "bits_stored": bits_stored,
        "pixel_representation": int(dtype.kind == "i"),
        "number_of_frames": 1,
        "pixel_keyword": "PixelData",
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stored, _ = get_decoder(UID(syntax)).as_array(encapsulate([content]), index=0, raw=True, **options)
    except (ValueError, RuntimeError, TypeError, OSError, KeyError, IndexError, AttributeError, MemoryError) as problem:
        raise DicomError("has packed pixels that cannot be decoded; copy it again from its source") from problem
    if stored.shape != shape or stored.dtype.kind not in "iu":
        raise DicomError(f"unpacks to {stored.dtype} {stored.shape}, expected whole numbers {shape}")
    return np.asarray(stored, dtype)


def picture_size(content: bytes) -> tuple[int, int] | None:
    """(rows, columns) in the header of a JPEG, JPEG-LS or JPEG 2000 codestream; None where there is no such header."""
    if content[:4] == b"\xff\x4f\xff\x51" and len(content) >= 24:
        right, bottom, left, top = (int(n) for n in np.frombuffer(content[8:24], ">u4"))
        return bottom - top, right - left
    position = 2 if content[:2] == b"\xff\xd8" else len(content)
    while position + 9 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:
            rows, columns = np.frombuffer(content[position + 5 : position + 9], ">u2")
            return int(rows), int(columns)
        position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    return None
