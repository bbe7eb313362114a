"""Which correction the echo-planar lines of a Siemens measurement need: from its header and its navigator lines."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.io.twix import header as name
from nirvana_mri.io.twix.epi import line_phase, ramp_positions, regridding
from nirvana_mri.io.twix.file import Measurement, has_flag
from nirvana_mri.io.twix.header import Protocol
from nirvana_mri.io.twix.lines import Matrix
from nirvana_mri.io.twix.source import LineTable

LARGEST = 1e15  # beyond, squares overflow; the file is damaged, as the samples will show


def find_regridding(
    lines: NDArray[Any], protocol: Protocol, matrix: Matrix, is_epi: bool, notes: list[str]
) -> NDArray[np.complex64] | None:
    """The matrix that makes samples on the gradient's ramps even, or None where they are or cannot be."""
    if not is_epi or protocol.values.get(name.REGRID_MODE, 1.0) <= 1:
        return None
    positions = ramp_positions(protocol, matrix.samples)
    if positions is None or matrix.samples > 4096 or matrix.samples != matrix.ny:
        notes.append("samples on the gradient's ramps are not regridded (mode unknown): expect blur along the readout")
        return None
    notes.append("samples on the gradient's ramps were regridded")
    field = protocol.get(name.READ_FOV, 0, 2000)
    over = protocol.get(name.OVERSAMPLING, 0.5, 8) or 2.0
    shift = float(lines["ReadOutOffcentre"][0])
    pixels = shift / (field * over / matrix.ny) if field and abs(shift) < 500 else 0.0
    return regridding(positions, pixels)


def find_phases(
    chosen: Measurement,
    table: LineTable,
    meant: NDArray[np.bool_],
    order: dict[int, int],
    regrid: NDArray[np.complex64] | None,
    mdh: ModuleType,
    notes: list[str],
) -> dict[int, NDArray[np.complex64]]:
    """For each slice, the factors that bring reflected lines in phase, from its navigators."""
    lines = chosen.lines
    navigators = has_flag(lines, mdh, "PHASCOR") & ~has_flag(lines, mdh, "PATREFSCAN", "NOISEADJSCAN")
    mapped = table.mapped()
    factors = {}
    for number, place_ in order.items():
        here = navigators & (lines["Counter"]["Sli"] == number)
        here = here & (lines["Counter"]["Rep"] == lines["Counter"]["Rep"][meant][0]) if (here & meant).any() else here
        with np.errstate(over="ignore", invalid="ignore"):
            pair = [
                _mean_line(table, mapped, np.flatnonzero(here & (table.reflected == way)), regrid) for way in (0, 1)
            ]
        if pair[0] is None or pair[1] is None or pair[0].shape != pair[1].shape:
            continue
        factors[place_] = line_phase(pair[0], pair[1])
    if len(factors) < len(order):
        notes.append("slices without phase-correction lines: lines of either direction do not match, expect ghosts")
    else:
        notes.append("odd and even lines were brought in phase (linear, from the navigators)")
    return factors


def _mean_line(
    table: LineTable, mapped: NDArray[np.uint8], rows: NDArray[np.int64], regrid: NDArray[np.complex64] | None
) -> NDArray[np.complex64] | None:
    if not rows.size or np.unique(table.samples[rows]).size > 1 or np.unique(table.channels[rows]).size > 1:
        return None
    line = np.asarray(np.mean([table.line(mapped, int(row)) for row in rows], axis=0, dtype=np.complex64))
    if regrid is not None:
        if regrid.shape[1] != line.shape[1]:
            return None
        line = line @ regrid.T
    return line if np.isfinite(line).all() and np.abs(line).max() < LARGEST else None
