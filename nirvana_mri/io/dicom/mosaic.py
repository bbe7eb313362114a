"""Siemens mosaics: all slices of a volume as the tiles of one picture (syngo VA to VE).

The position in the header is that of the corner of a picture of the mosaic's size about the first slice's centre; the
slices follow the normal that the private CSA header holds (nipy.org/nibabel/dicom/dicom_mosaic.html).
"""

from __future__ import annotations

import math
import struct
import warnings
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.io.dicom.elements import DicomError, Elements
from nirvana_mri.io.dicom.frames import Frame


def is_mosaic(header: Elements) -> bool:
    """True where the image type says so."""
    return "MOSAIC" in header.texts("ImageType")


def tiles_of(mosaic: Frame, header: Elements) -> list[Frame]:
    """The slices of a mosaic, in its own order. Raises: DicomError where the private header that tells is not there."""
    count = header.whole("SiemensImagesInMosaic")
    step = header.number("SpacingBetweenSlices") or 0.0
    if header.text("SiemensHeaderCreator") != "SIEMENS MR HEADER" or not 0 < count <= 4096 or step <= 0:
        raise DicomError("is a mosaic without the private header that says how many slices; export it as single slices")
    side = math.isqrt(count - 1) + 1
    rows, columns = (n // side for n in mosaic.shape)
    if mosaic.shape != (rows * side, columns * side):
        raise DicomError(f"is a mosaic of {mosaic.shape} pixels, which {side} x {side} tiles do not divide; export it")
    normal = _normal(header)
    if abs(abs(normal @ mosaic.normal) - 1) > 1e-3:
        raise DicomError("is a mosaic whose slices are not stacked along their normal; export it as single slices")
    towards = mosaic.normal * np.sign(normal @ mosaic.normal)
    along_row, along_column = mosaic.orientation
    corner = mosaic.position + along_row * mosaic.spacing[1] * (columns * side - columns) / 2
    corner = corner + along_column * mosaic.spacing[0] * (rows * side - rows) / 2
    tiles = []
    for number in range(count):
        top, left = number // side * rows, number % side * columns
        place = replace(mosaic.place, window=(slice(top, top + rows), slice(left, left + columns)))
        tiles.append(
            replace(
                mosaic,
                instance=(mosaic.instance[0], number),
                kind=tuple(code for code in mosaic.kind if code != "MOSAIC"),
                shape=(rows, columns),
                position=corner + towards * step * number,
                depth=step,
                place=place,
            )
        )
    return tiles


def _normal(header: Elements) -> NDArray[np.float64]:
    """The direction from slice to slice, from the CSA header."""
    content = header.values.get("SiemensCsa", ("", b""))[1]
    if header.text("SiemensCsaCreator") != "SIEMENS CSA HEADER":
        content = b""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # importing it warns that it is an experiment
        from nibabel.nicom import csareader
    try:
        normal = np.asarray(csareader.get_slice_normal(csareader.read(content)), np.float64)
    except (csareader.CSAError, struct.error, ValueError, TypeError, AssertionError, KeyError, IndexError):
        normal = np.zeros(0)
    if normal.shape != (3,) or not 0.9 < float(np.linalg.norm(normal)) < 1.1:
        raise DicomError("is a mosaic whose CSA header does not say which way its slices go; export single slices")
    return normal / np.linalg.norm(normal)
