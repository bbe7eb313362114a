"""open_scan: any file → Scan. Raw data as they are; pictures as a simulated acquisition, stamped so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.errors import ScanError
from nirvana_mri.io.open import open_file
from nirvana_mri.scan import Picture, Scan, SliceSource
from nirvana_mri.volume import SYNTHETIC

COILS = 8
SMALLEST = 16  # pixels a side


def open_scan(path: str | Path, **options: Any) -> Scan:
    """The acquisition in a file or folder, to be read slice by slice; options as in io.open.open_file.

    Pictures (DICOM, NIfTI) hold no raw data: what their slices would have given in a noiseless 8-coil acquisition is
    computed as they are asked for, so that a reconstruction shows what a method does to such a picture. Such a scan is
    stamped: ``raw`` is False, ``simulated`` True, and a warning says so. Raises: ScanError or DataError, one line with
    value, expectation and next step, for anything that cannot be used as it is; UsageError for options that do not fit.
    """
    found = open_file(path, **options)
    return acquire(found) if isinstance(found, Picture) else found


def acquire(picture: Picture) -> Scan:
    """The simulated, fully sampled acquisition of a picture; its RSS is the picture."""
    _, ny, nx = picture.shape
    if min(ny, nx) < SMALLEST:
        raise ScanError(f"{picture.path}: slices are {ny}x{nx}, expected at least {SMALLEST} pixels a side")
    return Scan(
        name=picture.name,
        kspace=AcquiredSlices(picture.pixels),
        acquired=np.ones(nx, bool),
        crop=(ny, nx),
        geometry=picture.geometry,
        reference=picture.pixels,
        multicoil=True,
        simulated=True,
        metadata={**picture.metadata, "kspace": SYNTHETIC},
        warnings=(*picture.warnings, f"{SYNTHETIC}; scores on it say less than those on measured k-space"),
        path=picture.path,
        file_format=picture.file_format,
        raw=False,
        volume=picture.volume,
        volumes=picture.volumes,
    )


@dataclass(frozen=True, eq=False)
class AcquiredSlices:
    """K-space complex64 ``[coil, ny, nx]`` of a picture's slices, computed when asked for: the same bytes each time."""

    pixels: SliceSource

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(slices, coils, ny, nx)."""
        slices, ny, nx = self.pixels.shape
        return slices, COILS, ny, nx

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> NDArray[np.complex64]:
        import torch

        from nirvana_mri.physics.simulate import Simulation, simulate_slice

        picture = torch.from_numpy(np.abs(self.pixels[index]).astype(np.complex64))
        return simulate_slice(picture, Simulation(COILS, noise=0.0), int(index), len(self)).numpy()
