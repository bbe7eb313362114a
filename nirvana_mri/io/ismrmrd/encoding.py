"""Which encoding of an ISMRMRD file to read, and whether its trajectory lies on a Cartesian grid."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.errors import UsageError
from nirvana_mri.io.hdf5 import SafeFile
from nirvana_mri.io.header import Header, HeaderError, parse_header
from nirvana_mri.io.ismrmrd.lines import CALIBRATION, has

# What to do with samples off the grid, by the schema's names of a trajectory.
OFF_THE_GRID = {
    "radial": "grid it first, for example with `bart nufft` or sigpy.mri.app",
    "goldenangle": "grid it first, for example with `bart nufft` or sigpy.mri.app",
    "spiral": "grid it first with its measured trajectory, for example with `bart nufft`",
    "other": "grid it first; if its lines do lie on the grid, say cartesian in the header",
}


def read_header(file: SafeFile, name: str, encoding: int = 0) -> Header:
    """The XML header of dataset ``name`` for one encoding. Raises: ScanError."""
    try:
        return parse_header(file.text(name), encoding)
    except HeaderError as problem:
        raise file.fail(f"{file.said(name)} cannot be used: {problem}; repair the header") from None


def choose_encoding(
    file: SafeFile, name: str, lines: NDArray[Any], wanted: int | None, calibration: bool
) -> tuple[int, Header]:
    """The number and header of the encoding to read: the only one with lines of a picture, or the ``wanted`` one.

    ``lines`` are those of pictures and calibration. An encoding with nothing but calibration lines counts only
    with ``calibration``. Raises: ScanError naming the encodings where there are several; UsageError for one
    that is not there.
    """
    header = read_header(file, name)
    if header.encodings == 0:
        raise file.fail(
            f"{file.said(name)} describes no encoding: matrix and field of view are unknown; write the header again"
        )
    used = [int(n) for n in np.unique(lines["encoding"])]
    if used and used[-1] >= header.encodings:
        raise file.fail(
            f"a line is of encoding {used[-1]}, but {file.said(name)} describes {header.encodings}; repair the header"
        )
    only_calibration = has(lines, CALIBRATION)
    chosen = lines[only_calibration] if calibration else lines[~only_calibration]
    usable = [int(n) for n in np.unique(chosen["encoding"])] or ([] if calibration else used)
    if not usable:
        what = "separate calibration lines" if calibration else "lines of a picture"
        raise file.fail(f"the file has no {what}, only others ({len(lines)} lines); export the imaging scan")
    if wanted is not None and wanted not in usable:
        raise UsageError(f"{file.path}: encoding {wanted} has no lines; choose one of {_listed(usable)}")
    if wanted is None and len(usable) > 1:
        described = "; ".join(_described(file, name, n, lines) for n in usable[:8])
        raise file.fail(f"holds {len(usable)} encodings ({described}); choose one: encoding={_listed(usable)}")
    number = usable[0] if wanted is None else wanted
    return number, read_header(file, name, number)


def _listed(numbers: list[int]) -> str:
    return " or ".join(str(n) for n in numbers[:8])


def _described(file: SafeFile, name: str, number: int, lines: NDArray[Any]) -> str:
    header = read_header(file, name, number)
    matrix = "x".join(str(n) for n in header.encoded_matrix or ()) or "matrix unknown"
    return f"{number}: {_known(header.trajectory)} {matrix}, {int((lines['encoding'] == number).sum())} lines"


def _known(trajectory: str) -> str:
    return trajectory if trajectory in {"cartesian", "epi", *OFF_THE_GRID} else "unknown"


def check_trajectory(file: SafeFile, header: Header) -> list[str]:
    """Notes on reading the encoding as Cartesian. Raises: ScanError, naming the trajectory, where it is not."""
    kind = _known(header.trajectory)
    if kind == "cartesian":
        return []
    if kind == "epi" and header.ramps is not None and not header.ramps.sampled:
        return ["the trajectory is epi, sampled on the flat top alone: read as Cartesian, without phase correction"]
    if kind == "epi":
        told = (
            "its readout is sampled on the ramps" if header.ramps else "it does not say whether the ramps are sampled"
        )
        raise file.fail(
            f"the trajectory is epi and {told}: regrid and phase-correct it first (for example Gadgetron's EPI chain), "
            "then say cartesian in the header"
        )
    hint = OFF_THE_GRID.get(kind, OFF_THE_GRID["other"])
    raise file.fail(f"the trajectory is {kind}, expected cartesian: its samples lie off the grid; {hint}")
