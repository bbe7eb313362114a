"""The pixels of DICOM images, fetched when asked for: bounded by the file, which is open only that long."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.errors import DataError
from nirvana_mri.io.dicom.elements import DicomError, DicomHeader
from nirvana_mri.io.dicom.packed import Spans, packed_spans, unpack
from nirvana_mri.io.dicom.tags import EXPLICIT, IMPLICIT
from nirvana_mri.io.slices import is_usable

LARGEST_SIDE = 8192


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """How the pixels of a file are stored."""

    shape: tuple[int, int]  # rows, columns
    allocated: int  # bits, of which the lowest ``stored`` count
    stored: int
    signed: bool
    syntax: str

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(f"<{'i' if self.signed else 'u'}{self.allocated // 8}")

    @property
    def packed(self) -> bool:
        return self.syntax not in (IMPLICIT, EXPLICIT)


@dataclass(frozen=True, slots=True)
class PixelPlace:
    """Where the pixels of one image are: pieces of a file that had ``size`` bytes, and a part of that picture."""

    path: Path = field(repr=False)
    size: int
    layout: PixelLayout
    spans: Spans
    slope: float
    intercept: float
    window: tuple[slice, slice] = (slice(None), slice(None))  # one tile of a mosaic

    def read(self) -> NDArray[np.float32]:
        """float32 ``[ny, nx]``, rescaled. Raises: DicomError where the pixels are not there; OSError."""
        with self.path.open("rb") as file:
            if self.path.stat().st_size != self.size:
                raise DicomError("changed its size since it was opened; open the series again")
            pieces = []
            for offset, length in self.spans:
                file.seek(offset)
                pieces.append(file.read(length))
        content = b"".join(pieces)
        if len(content) != sum(length for _, length in self.spans):
            raise DicomError("is cut short in its pixels; copy it again from its source")
        layout = self.layout
        stored: NDArray[Any]
        if layout.packed:
            stored = unpack(content, layout.syntax, layout.shape, layout.dtype, layout.stored)
        else:
            stored = np.frombuffer(content, layout.dtype).reshape(layout.shape)
        unused = layout.allocated - layout.stored
        stored = stored[self.window]
        if unused:  # overlays may hide there, and the sign has to reach the top
            stored = (stored << unused) >> unused
        return (stored * self.slope + self.intercept).astype(np.float32)


@dataclass(frozen=True, eq=False, repr=False)
class DicomSlices:
    """The slices of one volume, float32 ``[ny, nx]``. Holds no open file: forks and pickles well.

    Raises on reading: DataError for pixels that are missing, damaged or not finite.
    """

    where: Path
    places: tuple[PixelPlace, ...]
    shape: tuple[int, int, int]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: SupportsIndex) -> NDArray[np.float32]:
        number = range(len(self))[index]
        try:
            picture = self.places[number].read()
        except (DicomError, OSError) as problem:
            reason = problem if isinstance(problem, DicomError) else "cannot be read"
            raise DataError(f"{self.where}: the file of slice {number} {reason}") from None
        if not is_usable(picture):
            raise DataError(f"{self.where}: slice {number} has NaN, Inf or values beyond 1e30 after its rescaling")
        return picture

    def __repr__(self) -> str:
        return f"DicomSlices({'x'.join(map(str, self.shape))})"


def pixel_layout(header: DicomHeader) -> PixelLayout:
    """The layout that a header declares, refused where it cannot be a grey picture that is read here."""
    elements = header.elements
    rows, columns = elements.whole("Rows"), elements.whole("Columns")
    if not (0 < rows <= LARGEST_SIDE and 0 < columns <= LARGEST_SIDE):
        raise DicomError(f"declares {rows} x {columns} pixels, expected 1 to {LARGEST_SIDE} each way")
    photometric = elements.text("PhotometricInterpretation")
    if elements.whole("SamplesPerPixel", 1) != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise DicomError("holds a colour picture, expected grey values (MONOCHROME2)")
    if photometric == "MONOCHROME1":
        raise DicomError("says that low values are bright (MONOCHROME1); export it as MONOCHROME2")
    if elements.items.get("ModalityLUTSequence"):
        raise DicomError("maps its values through a table (Modality LUT); export it with a rescale slope")
    allocated, stored = elements.whole("BitsAllocated"), elements.whole("BitsStored")
    if allocated not in (8, 16, 32) or not 0 < stored <= allocated:
        raise DicomError(f"stores {stored} of {allocated} bits per pixel, expected up to 8, 16 or 32")
    if elements.whole("HighBit", stored - 1) != stored - 1:
        raise DicomError(f"keeps its {stored} bits away from the lowest (HighBit); convert it with a current tool")
    return PixelLayout((rows, columns), allocated, stored, elements.whole("PixelRepresentation", 0) == 1, header.syntax)


def pixel_spans(path: Path, header: DicomHeader, layout: PixelLayout, frames: int) -> list[Spans]:
    """Where each image's bytes are, all of them present. Raises: DicomError where they are not; OSError."""
    if header.pixels is None:
        raise DicomError("holds no pixels; copy it again from its source")
    tag, start, length = header.pixels
    if tag != 0x7FE00010:
        raise DicomError("holds floating-point pixels, expected whole numbers; give the MR images themselves")
    if layout.packed != (length is None):
        raise DicomError("stores its pixels in another way than its transfer syntax says; convert it again")
    if length is not None:
        one = layout.shape[0] * layout.shape[1] * layout.allocated // 8
        if start + max(length, frames * one) > header.size:
            missing = start + max(length, frames * one) - header.size
            raise DicomError(f"is cut short: {missing} bytes of its pixels are missing; copy it again from its source")
        if length < frames * one:
            raise DicomError(f"declares {frames} x {layout.shape} pixels but holds {length} bytes of them")
        return [((start + n * one, one),) for n in range(frames)]
    return packed_spans(path, start, header.size, frames)
