"""BART's file pairs (mrirecon.github.io/bart): a text header that names the dimensions, and column-major complex64.

BART's dimensions are 0 readout, 1 and 2 phase encoding, 3 coil, 4 maps, 5 echo, 10 time, 13 slice. Here ny is the
readout (0) and nx the first phase encoding (1); where the readout is of length 1 (already transformed), the two
phase-encoded axes 1 and 2 are ny and nx. Where all three are encoded, dimension 2 is transformed to slices if it is
fully sampled, else the readout is, so that the slices lie along it and their two axes are phase-encoded.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.atomic import atomic_path
from nirvana_mri.errors import DataError, ScanError, UsageError
from nirvana_mri.io.arrays.scan import array_scan, measured_volume, sampled_alike
from nirvana_mri.io.arrays.source import Axes, Mapped
from nirvana_mri.scan import Scan

DIMENSIONS = 16
LARGEST_HEADER = 1 << 20  # a header also lists the commands that made the data
FIRST_LINE = "# Dimensions"
COIL, MAPS, SLICE = 3, 4, 13
VOLUMES = (5, 6, 7, 8, 9, 10, 11, 12, 14, 15)  # echoes, times, averages and what else BART counts


def is_cfl(path: str | Path) -> bool:
    """True for the .cfl, the .hdr or the bare name of a BART pair. Never raises; reads a few bytes of the header."""
    try:
        header = _pair(Path(path))[0]
        if not header.is_file():
            return False
        with header.open("rb") as file:
            return file.read(len(FIRST_LINE)) == FIRST_LINE.encode()
    except (OSError, ValueError):
        return False


def read_cfl(path: str | Path, *, volume: int | None = None, images: bool = False) -> Scan:
    """The acquisition in a BART pair, given by either file or the bare name; mapped, and read slice by slice.

    What was not measured is told by its zeros. ``images`` says that the file holds complex coil images. Echoes, times
    and averages are volumes. Raises: ScanError for a damaged pair, maps, a trajectory, radial or spiral readouts;
    UsageError for a volume that is not there.
    """
    header, data = _pair(Path(path))
    dims = _dimensions(header)
    stored = Mapped(data, 0, dims, np.dtype("<c8"), "F")
    stored.check()
    _check_kind(data, dims)
    names = _axis_names(data, stored, volume, images)
    return array_scan(data, stored, names, volume=volume, images=images, file_format="BART cfl")


def write_cfl(path: str | Path, array: NDArray[np.complex64]) -> None:
    """A BART pair at ``path`` (with or without suffix), each file whole or not at all.

    ``array`` has its axes in BART's order; missing ones are of length 1. Raises: DataError for more than 16 axes or
    no samples.
    """
    header, data = _pair(Path(path))
    values = np.asarray(array, np.complex64)
    if values.ndim > DIMENSIONS or not values.size:
        raise DataError(f"{path}: an array {values.shape}, expected 1 to {DIMENSIONS} axes that are not empty")
    shape = values.shape + (1,) * (DIMENSIONS - values.ndim)
    with atomic_path(header) as new_header, atomic_path(data) as new_data:
        np.ascontiguousarray(values.T).astype("<c8", copy=False).tofile(new_data)
        new_header.write_text(f"{FIRST_LINE}\n{' '.join(map(str, shape))} \n")


def _pair(path: Path) -> tuple[Path, Path]:
    """Header and data. Names may hold dots, so only BART's own suffixes are taken off."""
    name = path.name.removesuffix(".cfl") if path.name.endswith(".cfl") else path.name.removesuffix(".hdr")
    return path.with_name(name + ".hdr"), path.with_name(name + ".cfl")


def _dimensions(header: Path) -> tuple[int, ...]:
    """Sixteen lengths, from the first line that follows "# Dimensions"."""
    try:
        if header.stat().st_size > LARGEST_HEADER:
            raise ScanError(f"{header}: larger than {LARGEST_HEADER} bytes, expected a short text; is it a header?")
        lines = header.read_text(encoding="ascii", errors="replace").splitlines()
    except (OSError, ValueError) as problem:
        raise ScanError(f"{header}: the header cannot be read ({problem}); keep it beside the .cfl") from problem
    at = next((n for n, line in enumerate(lines) if line.strip() == FIRST_LINE), None)
    words = lines[at + 1].split() if at is not None and at + 1 < len(lines) else []
    if not words or len(words) > DIMENSIONS or not all(w.isascii() and w.isdigit() and len(w) < 10 for w in words):
        raise ScanError(f"{header}: no line of 1 to {DIMENSIONS} dimensions under '{FIRST_LINE}'; write it again")
    dims = tuple(int(word) for word in words)
    if 0 in dims or math.prod(dims) >= 1 << 48:
        raise ScanError(f"{header}: dimensions {dims}, expected positive ones of a size that exists; write it again")
    return dims + (1,) * (DIMENSIONS - len(dims))


def _check_kind(path: Path, dims: tuple[int, ...]) -> None:
    """Refuse what BART also stores in such pairs: sensitivity maps, trajectories, single lines, spokes."""
    if dims[MAPS] > 1:
        raise ScanError(f"{path}: dimension 4 is {dims[MAPS]}: sets of sensitivity maps, not k-space; give the scan")
    encoded = [n for n in dims[:3] if n > 1]
    if len(encoded) < 2:
        raise ScanError(f"{path}: dimensions {dims[:4]} have {len(encoded)} encoded axes, expected 2 or 3; reshape it")
    if dims[0] == 3 and dims[COIL] == 1 and len(encoded) == 3:
        raise ScanError(f"{path}: dimensions {dims[:4]} look like a trajectory (kx, ky, kz); give the k-space itself")


def _axis_names(path: Path, stored: Mapped, volume: int | None, images: bool) -> tuple[str, ...]:
    dims = stored.shape
    names = [""] * DIMENSIONS
    names[COIL] = "coil"
    names[SLICE] = "slice" if dims[SLICE] > 1 else ""
    for axis in VOLUMES:
        names[axis] = "volume" if dims[axis] > 1 else ""
    if 1 in dims[:3]:
        first, second = (axis for axis in range(3) if dims[axis] > 1)
        names[first], names[second] = "ny", "nx"
        return tuple(names)
    if names[SLICE]:
        raise ScanError(
            f"{path}: three encoded axes {dims[:3]} and {dims[SLICE]} slabs (dimension 13); split the slabs"
        )
    names[:3] = ["ny", "nx", "partition"]
    if images:
        names[2] = "slice"
        return tuple(names)
    axes = Axes(stored, tuple(names))
    if not 0 <= (volume or 0) < axes.volumes:
        raise UsageError(f"volume {volume} is not there: {path} has {axes.volumes} (0 to {axes.volumes - 1})")
    if not sampled_alike(measured_volume(Axes(stored, tuple(names), volume or 0))):
        names[:3] = ["partition", "ny", "nx"]
    return tuple(names)
