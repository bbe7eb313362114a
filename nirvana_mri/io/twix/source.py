"""The slices of a Siemens raw data file, put together from their readout lines when asked for."""

from __future__ import annotations

import operator
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
from jaxtyping import Complex
from numpy import ndarray as Array
from numpy.typing import NDArray

from nirvana_mri.errors import ScanError
from nirvana_mri.io.arrays.fourier import inverse_row
from nirvana_mri.io.slices import check_slice
from nirvana_mri.io.twix.epi import apply_phase
from nirvana_mri.io.twix.file import Measurement
from nirvana_mri.io.twix.lines import Lines, Matrix


@dataclass(frozen=True, eq=False)
class LineTable:
    """Where the samples of each row of a measurement lie in the file, which is mapped only while it is read."""

    path: Path
    size: int
    data_at: NDArray[np.int64]
    channel_step: NDArray[np.int64]
    samples: NDArray[np.int64]
    channels: NDArray[np.int64]
    reflected: NDArray[np.bool_]

    def mapped(self) -> NDArray[np.uint8]:
        """The bytes of the file. Raises: ScanError where it is gone or changed its length."""
        try:
            held = np.memmap(self.path, np.uint8, "r")
        except (OSError, ValueError) as problem:
            raise ScanError(f"{self.path}: cannot be read ({problem}); check the path") from problem
        if held.size != self.size:
            raise ScanError(f"{self.path}: holds {held.size} bytes, {self.size} when opened; open the scan again")
        return np.asarray(held)

    def line(self, mapped: NDArray[np.uint8], row: int) -> Complex[Array, "coil ny"]:
        """One readout of all channels, turned round where the gradient was reversed."""
        channels, samples, step = int(self.channels[row]), int(self.samples[row]), int(self.channel_step[row])
        begin = int(self.data_at[row])
        strided = np.ndarray((channels, 8 * samples), np.uint8, mapped.data, begin, (step, 1))
        values = np.ascontiguousarray(strided).view("<c8").astype(np.complex64, copy=False)
        return values[:, ::-1] if self.reflected[row] else values


def line_table(path: Path, measurement: Measurement, reflected: NDArray[np.bool_]) -> LineTable:
    """Where the samples of a measurement lie."""
    samples, channels = (measurement.lines[key].astype(np.int64) for key in ("SamplesInScan", "UsedChannels"))
    size = path.stat().st_size
    return LineTable(path, size, measurement.data_at, measurement.channel_step, samples, channels, reflected)


@dataclass(frozen=True, eq=False)
class TwixSlices:
    """Slices complex64 ``[coil, ny, nx]``. Holds no open file: forks and pickles well.

    Lines that were measured several times are averaged; partitions are transformed to slices, of which the middle
    ``slices`` are kept. Raises on reading: ScanError for a slice that `check_slice` refuses, or a changed file.
    """

    table: LineTable
    lines: Lines
    matrix: Matrix
    coils: int
    slices: int
    acquired: NDArray[np.bool_]
    regrid: NDArray[np.complex64] | None = None
    phases: dict[int, NDArray[np.complex64]] = field(default_factory=dict)  # of reflected lines, by slice

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(slices, coils, ny, nx)."""
        return self.slices, self.coils, self.matrix.ny, self.matrix.nx

    def __len__(self) -> int:
        return self.slices

    def __getitem__(self, index: SupportsIndex) -> NDArray[np.complex64]:
        number = operator.index(index)
        if not -len(self) <= number < len(self):
            raise IndexError(f"slice {number} is not there: the scan has {len(self)} (0 to {len(self) - 1})")
        number %= len(self)
        with np.errstate(over="ignore", invalid="ignore"):  # damaged samples; check_slice sees what becomes of them
            samples = self._put_together(number)
        check_slice(samples, self.acquired, f"{self.table.path}: slice {number}")
        return samples

    def _put_together(self, number: int) -> NDArray[np.complex64]:
        lines, weights = self.lines, np.ones(1, np.complex64)
        if self.matrix.partitions > 1:
            position = number + self.matrix.partitions // 2 - self.slices // 2
            weights = inverse_row(position, self.matrix.partitions)
        else:
            lines = lines.take(lines.slices == number)
        counts = Counter(lines.cells.tolist())
        # Lines in the fast axis while they are filled in; turned once at the end.
        plane = np.zeros((self.matrix.nx, self.coils, self.matrix.ny), np.complex64)
        mapped = self.table.mapped()
        rows = slice(self.matrix.first, self.matrix.first + self.matrix.samples)
        numbers = (lines.rows, lines.partitions, lines.columns, lines.cells)
        for row, partition, column, cell in zip(*(part.tolist() for part in numbers), strict=True):
            factors = self.phases.get(number) if self.table.reflected[row] else None
            line = self._even(self.table.line(mapped, row), factors)
            plane[column, :, rows] += line * (weights[partition] / counts[cell])
        return np.ascontiguousarray(plane.transpose(1, 2, 0))

    def _even(self, line: NDArray[Any], factors: NDArray[np.complex64] | None) -> NDArray[Any]:
        if self.regrid is not None:
            line = line @ self.regrid.T
        return line if factors is None else apply_phase(line, factors)
