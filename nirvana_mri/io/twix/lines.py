"""Where the readout lines of a Siemens measurement belong in k-space: volume, slice, partition and column."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.errors import ScanError, UsageError
from nirvana_mri.io.twix import header as name
from nirvana_mri.io.twix.file import Measurement, has_flag
from nirvana_mri.io.twix.header import Protocol

# As twixtools, with the adjustments and dummies that VD and VE can mix in.
NO_IMAGE = (
    *("ACQEND", "RTFEEDBACK", "HPFEEDBACK", "SYNCDATA", "REFPHASESTABSCAN", "PHASESTABSCAN", "PHASCOR"),
    *("NOISEADJSCAN", "noname60", "MDH_VOP", "B1_CONTROLLOOP", "RETRO_DUMMYSCAN"),
)
VOLUME_COUNTERS = ("Eco", "Phs", "Rep", "Set", "Ida", "Idb", "Idc", "Idd", "Ide")  # the first runs fastest
TRAJECTORIES = {2: "radial", 4: "spiral", 8: "BLADE"}
SPARSEST = 32  # a grid with fewer lines than one in so many comes of damage, not of undersampling
BELIEVED = 4  # a matrix that the header names is believed up to this multiple of what the lines need


@dataclass(frozen=True)
class Matrix:
    """Lengths of the k-space grid: readout, phase encoding, and partitions (1 for slices)."""

    ny: int
    nx: int
    partitions: int
    samples: int  # of a line, placed from row ``first`` on
    first: int


@dataclass(frozen=True, eq=False)
class Lines:
    """Rows of the measurement that make the volume, with the slice, partition and column of each."""

    rows: NDArray[np.int64]
    slices: NDArray[np.int64]
    partitions: NDArray[np.int64]
    columns: NDArray[np.int64]

    def take(self, keep: NDArray[Any]) -> Lines:
        return Lines(self.rows[keep], self.slices[keep], self.partitions[keep], self.columns[keep])

    @property
    def cells(self) -> NDArray[np.int64]:
        """One number for each slice, partition and column."""
        return (self.slices << 40) + (self.partitions << 20) + self.columns


def image_rows(path: Path, found: Measurement, mdh: ModuleType) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which lines make the picture, and which are calibration alone. Raises: ScanError for lines that are no grid."""
    lines = found.lines
    if has_flag(lines, mdh, "FIRST_SCAN_IN_BLADE", "LAST_SCAN_IN_BLADE").any():
        raise ScanError(f"{path}: BLADE readouts, not a Cartesian grid; grid the samples first")
    if has_flag(lines, mdh, "SLICE_ACCEL_REFSCAN", "SLICE_ACCEL_PHASCOR").any():
        raise ScanError(f"{path}: several slices were excited at once (multi-band), which is not unfolded here")
    usable = ~has_flag(lines, mdh, *NO_IMAGE)
    reference = usable & has_flag(lines, mdh, "PATREFSCAN") & ~has_flag(lines, mdh, "PATREFANDIMASCAN")
    return usable & ~reference, reference


def check_cartesian(path: Path, protocol: Protocol) -> None:
    """Nothing, where the header names a Cartesian trajectory and one slice at a time. Raises: ScanError."""
    kind = TRAJECTORIES.get(int(protocol.get(name.TRAJECTORY, 0, 255) or 1))
    if kind:
        raise ScanError(f"{path}: {kind} readouts, not a Cartesian grid; grid the samples first")
    if (protocol.count(name.BANDS, 64) or 1) > 1:
        raise ScanError(f"{path}: several slices were excited at once (multi-band), which is not unfolded here")


def of_volume(
    path: Path, lines: NDArray[Any], image: NDArray[np.bool_], volume: int | None
) -> tuple[NDArray[np.bool_], int]:
    """The image lines of one volume, and how many volumes there are.

    Raises: UsageError for a volume that is not there.
    """
    counters = np.stack([lines["Counter"][counter] for counter in VOLUME_COUNTERS[::-1]], axis=1).astype(np.int64)
    kinds = np.unique(counters[image], axis=0)
    if not 0 <= (volume or 0) < len(kinds):
        raise UsageError(f"volume {volume} is not there: {path} has {len(kinds)} (0 to {len(kinds) - 1})")
    return np.asarray((counters == kinds[volume or 0]).all(axis=1)), len(kinds)


def find_matrix(path: Path, lines: NDArray[Any], protocol: Protocol, notes: list[str]) -> Matrix:
    """The grid on which image lines lie: centred, wherever an echo or the lines begin late.

    Raises: ScanError for lines of several lengths.
    """
    lengths = Counter(lines["SamplesInScan"].tolist())
    channels = set(lines["UsedChannels"].tolist())
    if len(lengths) > 1 or len(channels) > 1:
        raise ScanError(
            f"{path}: image lines of {sorted(lengths)[:5]} samples and {sorted(channels)[:5]} channels, expected one "
            "length; export the measurement again"
        )
    samples = next(iter(lengths))
    centre = _usual(lines["CenterCol"])
    if not 0 < centre < samples:
        notes.append(f"the lines name no centre among their {samples} samples: taken as the middle one")
        centre = samples // 2
    over = protocol.get(name.OVERSAMPLING, 0.5, 8) or 2.0
    named = round((protocol.count(name.BASE, 1 << 14) or 0) * over)
    needed = 2 * max(centre, samples - centre)
    if abs(centre - samples // 2) <= 1:
        ny, centre = samples, samples // 2
    else:
        ny = named if needed <= named <= BELIEVED * needed else needed
        notes.append(f"asymmetric echo: sample {centre} of {samples} is the centre; unmeasured rows are zero")
    volume_encoded = protocol.get(name.DIMENSION, 0, 255) == 4 or int(lines["Counter"]["Par"].max()) > 0
    nx = _length(lines["Counter"]["Lin"], lines["CenterLin"], protocol.count(name.LINES, 1 << 14))
    partitions = 1
    if volume_encoded:
        named_partitions = protocol.count(name.PARTITIONS, 1 << 14)
        partitions = _length(lines["Counter"]["Par"], lines["CenterPar"], named_partitions)
    return Matrix(ny, nx, partitions, samples, ny // 2 - centre)


def _length(numbers: NDArray[Any], centres: NDArray[Any], named: int | None) -> int:
    """How many encoding steps there are about the centre: what the header names, if it fits."""
    count, centre = int(numbers.max()) + 1, _usual(centres)
    needed = 2 * max(centre, count - centre) if 0 < centre < count else count
    needed = count if abs(centre - count // 2) <= 1 and count > 1 else needed
    return named if named is not None and needed <= named <= BELIEVED * needed else needed


def _usual(values: NDArray[Any]) -> int:
    return int(Counter(values.tolist()).most_common(1)[0][0])


def place(lines: NDArray[Any], rows: NDArray[np.int64], matrix: Matrix, order: dict[int, int]) -> Lines:
    """Where each of ``rows`` belongs; lines off the grid are left out."""
    chosen = lines[rows]
    counter = chosen["Counter"]
    slices = np.array([order.get(int(number), -1) for number in counter["Sli"]], np.int64)
    columns = _position(counter["Lin"], chosen["CenterLin"], matrix.nx)
    partitions = np.zeros(len(rows), np.int64)
    if matrix.partitions > 1:
        partitions = _position(counter["Par"], chosen["CenterPar"], matrix.partitions)
    inside = (slices >= 0) & (columns >= 0) & (columns < matrix.nx)
    inside &= (partitions >= 0) & (partitions < matrix.partitions)
    return Lines(rows, slices, partitions, columns).take(inside)


def _position(numbers: NDArray[Any], centres: NDArray[Any], length: int) -> NDArray[np.int64]:
    centre = _usual(centres) if centres.size else 0
    return numbers.astype(np.int64) - (centre or length // 2) + length // 2


def sampled_columns(path: Path, placed: Lines, matrix: Matrix, slices: int) -> NDArray[np.bool_]:
    """bool ``[nx]``, True where a line was measured. Raises: ScanError where slices or partitions differ in that."""
    cells, lines = slices * matrix.partitions * matrix.nx, np.unique(placed.cells).size
    if cells > SPARSEST * lines:
        raise ScanError(
            f"{path}: {lines} lines for a grid of {slices}x{matrix.partitions}x{matrix.nx}: its counters are damaged; "
            "copy it again from its source"
        )
    found = np.zeros((slices, matrix.partitions, matrix.nx), bool)
    found[placed.slices, placed.partitions, placed.columns] = True
    columns = np.asarray(found.any(axis=(0, 1)))
    if (found == columns).all():
        return columns
    if matrix.partitions > 1:
        raise ScanError(
            f"{path}: partitions are undersampled ({int(found.any(axis=2).sum())} of {found.shape[0] * found.shape[1]} "
            "hold lines, not all the same), so they cannot be transformed alone; convert the file to ISMRMRD"
        )
    bad = int(np.flatnonzero((found != columns).any(axis=(1, 2)))[0])
    raise ScanError(f"{path}: slice {bad} holds other lines than the rest: an aborted scan? Export a complete one")
