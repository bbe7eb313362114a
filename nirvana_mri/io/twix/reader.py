"""Siemens raw data (.dat, "twix"; VB, VD and VE) → Scan: Cartesian and echo-planar, read slice by slice."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.errors import ScanError
from nirvana_mri.io.hdf5 import LARGEST_READ
from nirvana_mri.io.twix import header as name
from nirvana_mri.io.twix.file import Measurement, has_flag, is_twix, load_twixtools, read_measurements
from nirvana_mri.io.twix.geometry import read_geometry, slice_order
from nirvana_mri.io.twix.header import Protocol, read_protocol
from nirvana_mri.io.twix.lines import (
    Lines,
    Matrix,
    check_cartesian,
    find_matrix,
    image_rows,
    of_volume,
    place,
    sampled_columns,
)
from nirvana_mri.io.twix.navigators import find_phases, find_regridding
from nirvana_mri.io.twix.noise import read_noise
from nirvana_mri.io.twix.source import TwixSlices, line_table
from nirvana_mri.scan import Scan

__all__ = ["is_twix", "read_twix"]

METADATA = {  # the name here: the name in the header, and its unit there
    "field_strength_t": (name.FIELD, 1.0),
    "tr_ms": (name.REPETITION, 1e-3),
    "te_ms": (name.ECHO, 1e-3),
    "flip_angle_deg": (name.FLIP, 1.0),
}


def read_twix(path: str | Path, *, volume: int | None = None) -> Scan:
    """The last measurement with a picture in a Siemens raw data file.

    Averages become their mean; repetitions, echoes, phases and sets are volumes; slices come in order of position;
    fully sampled partitions are transformed to slices. Calibration lines fill in where no image line was measured.
    Echo-planar lines are regridded, turned round and brought in phase by their navigators. Noise lines of any
    measurement are kept, on the scale of the k-space.

    Raises: MissingExtraError without twixtools; UsageError for a volume that is not there; ScanError for what is
    damaged, no Cartesian grid, or needs another reconstruction (multi-band, undersampled partitions).
    """
    path = Path(path)
    mdh = load_twixtools()
    found = read_measurements(path)
    chosen = next((m for m in reversed(found) if image_rows(path, m, mdh)[0].any()), None)
    if chosen is None:
        raise ScanError(f"{path}: none of its {len(found)} measurements holds image lines; export the scan itself")
    return _scan(path, found, chosen, mdh, volume)


def _scan(path: Path, found: list[Measurement], chosen: Measurement, mdh: ModuleType, volume: int | None) -> Scan:
    notes = [] if chosen.complete else ["the end marker is missing: was the scan aborted?"]
    protocol = read_protocol(chosen.header)
    check_cartesian(path, protocol)
    image, reference = image_rows(path, chosen, mdh)
    meant, volumes = of_volume(path, chosen.lines, image, volume)
    order = slice_order(chosen.lines, image, notes)
    matrix = find_matrix(path, chosen.lines[image], protocol, notes)
    if matrix.partitions > 1 and len(order) > 1:
        raise ScanError(f"{path}: {len(order)} slabs of partitions, expected one; export each slab by itself")
    reflected = has_flag(chosen.lines, mdh, "REFLECT")
    is_epi = bool((reflected & image).any())
    placed = place(chosen.lines, np.flatnonzero(image & meant), matrix, order)
    placed = _calibrated(chosen.lines, placed, np.flatnonzero(reference), matrix, order, is_epi, notes)
    if not placed.rows.size:
        raise ScanError(f"{path}: no line of volume {volume or 0} lies on its grid; the file is damaged, copy it again")
    columns = sampled_columns(path, placed, matrix, len(order))
    if np.unique(placed.cells).size < placed.cells.size:
        notes.append("some lines were measured several times (averages): their mean is used")
    slices = _kept_partitions(matrix, protocol) if matrix.partitions > 1 else len(order)
    crop, geometry = read_geometry(chosen.lines[image], order, matrix, slices, protocol, notes)
    coils = int(chosen.lines["UsedChannels"][image][0])
    if coils * matrix.ny * matrix.nx * 8 > LARGEST_READ:
        raise ScanError(f"{path}: a slice of {coils}x{matrix.ny}x{matrix.nx} is too large; is the file damaged?")
    table = line_table(path, chosen, reflected)
    regrid = find_regridding(chosen.lines[image], protocol, matrix, is_epi, notes)
    phases = find_phases(chosen, table, meant, order, regrid, mdh, notes) if is_epi else {}
    acquired = _acquired(columns, matrix)
    return Scan(
        name=path.stem,
        kspace=TwixSlices(table, placed, matrix, coils, slices, acquired, regrid, phases),
        acquired=acquired,
        crop=crop,
        geometry=geometry,
        multicoil=coils > 1,
        metadata=_metadata(protocol),
        warnings=tuple(notes),
        path=path,
        file_format="Siemens twix",
        noise=read_noise(path, found, chosen, coils, protocol, mdh),
        volume=volume or 0,
        volumes=volumes,
    )


def _calibrated(
    lines: NDArray[Any],
    placed: Lines,
    rows: NDArray[np.int64],
    matrix: Matrix,
    order: dict[int, int],
    is_epi: bool,
    notes: list[str],
) -> Lines:
    """The lines with those calibration lines that fill gaps."""
    if not rows.size:
        return placed
    if is_epi:
        notes.append("the calibration lines of an echo-planar scan are not used: their distortion is another")
        return placed
    fit = rows[(lines["SamplesInScan"][rows] == matrix.samples)]
    fit = fit[lines["UsedChannels"][fit] == lines["UsedChannels"][placed.rows[0]]] if placed.rows.size else fit
    more = place(lines, fit, matrix, order)
    more = more.take(~np.isin(more.cells, placed.cells))
    if not more.rows.size:
        notes.append(f"{rows.size} calibration lines are of another kind than the image lines and are not used")
        return placed
    pairs = ((getattr(placed, key), getattr(more, key)) for key in ("rows", "slices", "partitions", "columns"))
    return Lines(*(np.concatenate(pair) for pair in pairs))


def _kept_partitions(matrix: Matrix, protocol: Protocol) -> int:
    """How many slices the slab is to have, without slice oversampling."""
    images = protocol.count(name.IMAGES, 1 << 14)
    return images if images and images <= matrix.partitions else matrix.partitions


def _acquired(columns: NDArray[np.bool_], matrix: Matrix) -> NDArray[np.bool_]:
    rows = np.zeros(matrix.ny, bool)
    rows[matrix.first : matrix.first + matrix.samples] = True
    return columns if rows.all() else rows[:, None] & columns


def _metadata(protocol: Protocol) -> dict[str, float]:
    found = {key: (protocol.get(where, 0, 1e9), factor) for key, (where, factor) in METADATA.items()}
    return {key: value * factor for key, (value, factor) in found.items() if value is not None}
