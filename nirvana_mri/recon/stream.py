"""One slice after the other: the next is read while this one is used, and finished pictures wait on disk."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.errors import DataError
from nirvana_mri.scan import Scan, SliceSource
from nirvana_mri.volume import Volume


def slices_of(scan: Scan, numbers: Sequence[int]) -> Generator[NDArray[np.complex64]]:
    """K-space of these slices, in this order; those of a raw file are read ahead.

    Slices that are computed from pictures are not: that would only take the processor from the reconstruction.
    """
    if scan.path is not None and scan.raw:
        return read_ahead(scan.kspace, numbers)
    return (scan.kspace[number] for number in numbers)


def read_ahead(source: SliceSource, numbers: Sequence[int]) -> Generator[NDArray[Any]]:
    """The slices in this order, the next one fetched by a thread while this one is used.

    Each is an array of its own, never a buffer that the next one fills, so that it may be kept; a consumer that lets
    go of it holds two at most. What fetching a slice raises is raised when that slice's turn comes. The thread ends
    with the iterator, also where that is left early.
    """
    with ThreadPoolExecutor(1, "read-ahead") as reader:
        coming = reader.submit(source.__getitem__, numbers[0])
        for following in numbers[1:]:
            samples = coming.result()
            coming = reader.submit(source.__getitem__, following)
            yield samples
        yield coming.result()


def spooled(head: Volume, pictures: Iterable[NDArray[Any]], out: Path) -> Volume:
    """``head`` with the pictures as its voxels, which lie in a file without a name on the disk of ``out``.

    The system maps that file, so that it takes no memory that something else needs; it is gone with the voxels, or
    with the process however it ends. Raises: DataError for a disk that is full.
    """
    folder = next(place for place in out.resolve().parents if place.exists())
    with tempfile.TemporaryFile(dir=folder) as file:
        for picture in pictures:
            try:
                file.write(np.ascontiguousarray(picture, head.voxels.dtype).data)
            except OSError as problem:
                raise DataError(f"{out}: cannot be written ({problem}); check space and permissions") from problem
        file.flush()
        return replace(head, voxels=np.memmap(file, head.voxels.dtype, "r", shape=head.voxels.shape))


def nothing(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Zeros of any shape in no memory: what stands for voxels that are elsewhere, or yet to come."""
    return np.broadcast_to(np.zeros((), dtype), shape)
