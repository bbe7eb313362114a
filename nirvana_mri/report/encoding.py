"""What a scan encoded, and what of it was measured: padding, partial Fourier, acceleration, calibration lines."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.physics.lint.borders import encoded_lines
from nirvana_mri.physics.sampling import calibration_region, phase_lines
from nirvana_mri.scan import Scan

Mask = NDArray[np.bool_]
PLACED = ("ISMRMRD h5", "Siemens twix")  # these say of every line where it goes: what they lack is declared


def declared_padding(scan: Scan) -> tuple[int, int] | None:
    """[first, stop) of the columns that the header does not call padding, where it says so of this matrix."""
    first, stop = scan.metadata.get("padding_left"), scan.metadata.get("padding_right")
    encoded = scan.metadata.get("encoding_size")
    nx = scan.shape[3]
    if not isinstance(first, int) or not isinstance(stop, int) or first >= stop:
        return None
    return (first, stop) if encoded is None or encoded[1] == nx else None


def declared_box(scan: Scan) -> tuple[slice, slice]:
    """(rows, columns) outside of which nothing was meant to be measured."""
    if scan.file_format in PLACED:
        mask = np.broadcast_to(scan.acquired, scan.shape[2:])
        return _extent(np.asarray(mask.any(axis=1))), _extent(np.asarray(mask.any(axis=0)))
    padding = declared_padding(scan)
    return slice(None), slice(None) if padding is None else slice(max(padding[0], 0), padding[1])


def encoded_acceleration(scan: Scan) -> float:
    """Encoded phase lines over distinct measured lines; samples instead of lines where both axes are phase-encoded.

    Padding counts on neither side. Lines that partial Fourier left out count as encoded.
    """
    lines = phase_lines(scan.acquired)
    padding = declared_padding(scan)
    if lines is not None:
        return encoded_lines(lines, padding) / int(lines.sum())
    rows, columns = np.asarray(scan.acquired.any(axis=1)), np.asarray(scan.acquired.any(axis=0))
    return encoded_lines(rows) * encoded_lines(columns, padding) / int(scan.acquired.sum())


def calibration_lines(scan: Scan) -> int:
    """Lines about the centre of k-space without a gap; where both axes are phase-encoded, the block's shorter side."""
    lines = phase_lines(scan.acquired)
    rows, columns = calibration_region(scan.acquired if lines is None else lines)
    width = columns.stop - columns.start
    return width if lines is not None else min(width, rows.stop - rows.start)


def _extent(touched: Mask) -> slice:
    inside = np.flatnonzero(touched)
    return slice(int(inside[0]), int(inside[-1]) + 1) if inside.size else slice(None)
