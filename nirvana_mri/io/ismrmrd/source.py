"""Slices of an ISMRMRD file, gathered line by line as they are asked for; in 3-D a block of slices at a time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.errors import ScanError
from nirvana_mri.io.heap import Heap, RawError
from nirvana_mri.io.ismrmrd.placement import Placement
from nirvana_mri.io.slices import check_slice, in_range

BLOCK = 40 << 20  # bytes of finished slices that a 3-D source keeps
SLAB = 8 << 20  # bytes of the columns that are transformed at a time


@dataclass(frozen=True)
class LineFile:
    """Where lines are read from: the file as it was when it was opened."""

    path: Path
    base: int  # addresses count from here
    size: int
    numbers: np.dtype[Any]

    def samples(self, lines: NDArray[Any]) -> Iterable[tuple[Any, NDArray[np.complex64]]]:
        """Each line with its samples ``[coil, sample]`` as stored. Raises: ScanError."""
        try:
            if self.path.stat().st_size != self.size:
                raise ScanError(f"{self.path}: the file changed since it was opened; open the scan again")
            with Heap(self.path, self.base) as heap:
                for line in lines:
                    stored = heap.bytes_at(
                        int(line["address"]), int(line["object"]), int(line["length"]) * self.numbers.itemsize
                    )
                    values = np.frombuffer(stored, self.numbers)
                    with np.errstate(over="ignore", invalid="ignore"):
                        values = values.astype(np.float32, copy=False)
                    yield line, values.view(np.complex64).reshape(int(line["channels"]), int(line["samples"]))
        except RawError as problem:
            raise ScanError(f"{self.path}: line {int(line['number'])} {problem}") from problem
        except OSError as problem:
            raise ScanError(f"{self.path}: cannot be read ({problem.strerror}); check the disk") from problem


def gather(
    file: LineFile, placement: Placement, lines: NDArray[Any], columns: tuple[int, int], planes: int
) -> NDArray[np.complex64]:
    """``[plane, coil, ny, column]`` of ``lines``, the mean where several measured the same sample, else zero.

    ``columns`` is the range that is wanted; planes count from the first line's.
    """
    left, right = columns
    wanted = lines[(lines["column"] >= left) & (lines["column"] < right)]
    first = int(lines["plane"][0])  # they are sorted by plane
    total = np.zeros((planes, placement.coils, placement.ny, right - left), np.complex64)
    times = np.zeros((planes, placement.ny, right - left), np.int32)
    for line, samples in file.samples(wanted):
        plane, column = int(line["plane"]) - first, int(line["column"]) - left
        start, stop, skipped = int(line["start"]), int(line["stop"]), int(line["first"])
        forward = samples[:, ::-1] if line["reversed"] else samples
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused by check_slice
            total[plane, :, start:stop, column] += forward[:, skipped : skipped + stop - start]
        times[plane, start:stop, column] += 1
    if times.max() > 1:
        total /= np.maximum(times, 1, dtype=np.float32)[:, None]
    return total


@dataclass(frozen=True, eq=False)
class LineSlices:
    """Slices of a 2-D acquisition, complex64 ``[coil, ny, nx]``. Holds no open file: forks and pickles well."""

    file: LineFile
    placement: Placement
    acquired: NDArray[np.bool_]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(slices, coils, ny, nx)."""
        place = self.placement
        return place.planes, place.coils, place.ny, place.nx

    def __len__(self) -> int:
        return self.placement.planes

    def __getitem__(self, index: SupportsIndex) -> NDArray[np.complex64]:
        number = in_range(index, len(self))
        planes = self.placement.lines["plane"]
        mine = self.placement.lines[slice(*np.searchsorted(planes, [number, number + 1]))]
        samples = gather(self.file, self.placement, mine, (0, self.placement.nx), 1)[0]
        check_slice(samples, self.acquired, f"{self.file.path}: slice {number}")
        return samples


@dataclass(frozen=True, eq=False)
class SlabSlices:
    """Slices of a 3-D acquisition: its k-space after a transform along the partitions, ``[coil, ny, nx]`` each.

    Slices [start, start + count) of that transform, centred and orthonormal, are the scan's. A block of at most
    40 MiB of them is kept; the lines are read once for each block.
    """

    file: LineFile
    placement: Placement
    acquired: NDArray[np.bool_]
    start: int
    count: int
    _kept: dict[str, tuple[int, NDArray[np.complex64]]] = field(default_factory=dict, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept": {}}

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(slices, coils, ny, nx)."""
        place = self.placement
        return self.count, place.coils, place.ny, place.nx

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: SupportsIndex) -> NDArray[np.complex64]:
        number = in_range(index, len(self))
        samples = self._from_kept(number)
        if samples is None:
            self._kept.clear()  # before the next block takes its room
            most = max(BLOCK // (int(np.prod(self.shape[1:])) * 8), 1)
            first = number // most * most
            block = self._block(first, min(most, self.count - first))
            self._kept["block"] = first, block
            samples = block[number - first].copy()
        check_slice(samples, self.acquired, f"{self.file.path}: slice {number}")
        return samples

    def _from_kept(self, number: int) -> NDArray[np.complex64] | None:
        """A slice of the block that is kept, None where it is not in there."""
        first, block = self._kept.get("block", (0, None))
        return block[number - first].copy() if block is not None and first <= number < first + len(block) else None

    def _block(self, first: int, count: int) -> NDArray[np.complex64]:
        """Slices [first, first + count), a few columns at a time."""
        place, planes = self.placement, self.placement.lines["plane"]
        bottom, top = int(planes.min()), int(planes.max()) + 1
        slices = np.arange(first, first + count) + self.start - place.planes // 2
        partitions = np.arange(bottom, top) - place.planes // 2
        waves = np.exp(2j * np.pi / place.planes * np.outer(slices, partitions)) / np.sqrt(place.planes)
        block = np.zeros((count, place.coils, place.ny, place.nx), np.complex64)
        width = max(SLAB // ((top - bottom) * place.coils * place.ny * 8), 1)
        for left in range(0, place.nx, width):
            right = min(left + width, place.nx)
            part = gather(self.file, place, place.lines, (left, right), top - bottom)
            mixed = waves.astype(np.complex64) @ part.reshape(top - bottom, -1)
            block[..., left:right] = mixed.reshape(count, *part.shape[1:])
        return block
