"""A scan made from pictures, for trying and testing: stamped "simulated" wherever it goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nirvana_mri import __version__
from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.io.header import centred_geometry
from nirvana_mri.io.nifti import as_picture, read_image_volume
from nirvana_mri.io.writers.fastmri import write_fastmri
from nirvana_mri.physics.coils import rss
from nirvana_mri.physics.fourier import ifft2c
from nirvana_mri.physics.simulate import Simulation, simulate_slice
from nirvana_mri.recon.open import open_scan
from nirvana_mri.scan import Geometry, Scan

SMALLEST = 16  # pixels a side
ARRAY = "the array"
NOTE = "k-space simulated from a picture: its scores say less than those on measured k-space"


@dataclass(frozen=True, eq=False)
class SimulatedSlices:
    """K-space complex64 ``[coil, ny, nx]``, computed when a slice is asked for: the same bytes each time."""

    pictures: NDArray[Any]
    numbers: tuple[int, ...]
    settings: Simulation
    peak: float

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(slices, coils, ny, nx)."""
        return len(self.numbers), self.settings.coils, self.pictures.shape[1], self.pictures.shape[2]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> NDArray[np.complex64]:
        number = self.numbers[index]
        picture = torch.from_numpy(self.pictures[number].astype(np.complex64))
        return simulate_slice(picture, self.settings, number, len(self.pictures), self.peak).numpy()


@dataclass(frozen=True, eq=False)
class RssSlices:
    """float32 ``[ny, nx]``: root sum of squares of the fully sampled coils, noise and all, as fastMRI's target."""

    kspace: SimulatedSlices

    @property
    def shape(self) -> tuple[int, int, int]:
        slices, _, ny, nx = self.kspace.shape
        return slices, ny, nx

    def __len__(self) -> int:
        return len(self.kspace)

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        return rss(ifft2c(torch.from_numpy(self.kspace[index]))).numpy()


def simulate(
    source: str | Path | NDArray[Any],
    *,
    coils: int = 8,
    noise: int | float = 0.01,
    phase: int | float = 2.0,
    seed: int = 0,
    slices: Sequence[int] | None = None,
    volume: int | None = None,
    voxel_mm: tuple[float, float, float] | None = None,
    out: str | Path | None = None,
    name: str | None = None,
) -> Scan:
    """A fully sampled multi-coil scan of a picture, with its RSS target.

    ``source`` is a NIfTI or npy file (see ``io.nifti``), or an array ``[slice, ny, nx]`` or ``[ny, nx]``: a magnitude,
    or complex. ``noise`` and ``phase`` are explained at :class:`Simulation`; with ``phase=0`` a complex picture
    keeps its own. ``slices`` picks slices by number and changes nothing in those picked; ``volume`` one of a
    NIfTI series; ``voxel_mm`` (slice, ny, nx) is for pictures that do not know theirs. The scan computes its slices
    as they are asked for; with ``out`` it is written there in fastMRI's layout (which holds voxel sizes but no
    orientation) and opened.

    Raises: DataError for a picture that cannot be one (NaN, negative, all zero, too small, wrong rank); UsageError
    for settings that cannot work.
    """
    settings = Simulation(coils, float(noise), float(phase), seed)
    what, pictures, geometry = _pictures(source, volume, voxel_mm)
    numbers = _numbers(slices, len(pictures))
    kspace = SimulatedSlices(pictures, numbers, settings, _checked_peak(pictures, numbers, settings, what))
    scan = Scan(
        name=name or (_stem(Path(out or what)) if out or what != ARRAY else "simulated"),
        kspace=kspace,
        acquired=np.ones(pictures.shape[2], bool),
        crop=(pictures.shape[1], pictures.shape[2]),
        geometry=_of_slices(geometry, numbers, pictures.shape),
        reference=RssSlices(kspace),
        multicoil=coils > 1,
        simulated=True,
        metadata={"simulation": _provenance(settings, what, numbers, len(pictures))},
        warnings=(NOTE,),
        file_format="simulated",
    )
    return scan if out is None else _written(scan, Path(out))


def _pictures(
    source: str | Path | NDArray[Any], volume: int | None, voxel_mm: tuple[float, float, float] | None
) -> tuple[str, NDArray[Any], Geometry]:
    """(what to call it, pictures ``[slice, ny, nx]``, where they lie)."""
    if isinstance(source, np.ndarray):
        if source.ndim not in (2, 3) or source.dtype.kind not in "biufc":
            raise DataError(f"{ARRAY} is {source.dtype} {source.shape}, expected numbers (slices, ny, nx) or (ny, nx)")
        what, pictures, geometry = ARRAY, as_picture(source.reshape(-1, *source.shape[-2:])), Geometry()
    else:
        what, (pictures, geometry) = str(source), read_image_volume(source, volume)
    if voxel_mm is not None and geometry.voxel_mm is None:
        geometry = centred_geometry(voxel_mm, pictures.shape)
    return what, pictures, geometry


def _written(scan: Scan, out: Path) -> Scan:
    write_fastmri(
        out,
        scan.kspace,
        reference=scan.reference,
        voxel_mm=scan.geometry.voxel_mm,
        simulated=scan.metadata["simulation"],
    )
    return replace(open_scan(out), name=scan.name)


def _numbers(slices: Sequence[int] | None, count: int) -> tuple[int, ...]:
    if slices is None:
        return tuple(range(count))
    numbers = tuple(int(n) for n in slices)
    if not numbers or min(numbers) < 0 or max(numbers) >= count or len(set(numbers)) < len(numbers):
        raise UsageError(f"slices {list(numbers)} cannot be taken; expected different numbers from 0 to {count - 1}")
    return numbers


def _checked_peak(pictures: NDArray[Any], numbers: tuple[int, ...], settings: Simulation, what: str) -> float:
    """The volume's largest magnitude, once it is sure that k-space can be made from the picture."""
    if min(pictures.shape) < 1 or min(pictures.shape[1:]) < SMALLEST:
        raise DataError(f"{what}: slices are {pictures.shape[1:]}, expected at least {SMALLEST} pixels a side")
    if not np.isfinite(pictures).all():
        bad = int((~np.isfinite(pictures)).sum())
        raise DataError(f"{what}: {bad} of {pictures.size} voxels are NaN or Inf; repair the picture first")
    if pictures.dtype.kind != "c" and pictures.min() < 0:
        raise DataError(f"{what}: values from {pictures.min():g}, a magnitude has none below 0; clip or shift it first")
    sizes = np.abs(pictures).max(axis=(1, 2))
    if not sizes.max() > 0:
        raise DataError(f"{what}: the picture is all zero; choose another file or volume")
    empty = [n for n in numbers if sizes[n] == 0]
    if empty and settings.noise == 0:
        raise DataError(f"{what}: slice {empty[0]} is all zero, as its k-space would be; leave it out, or add noise")
    return float(sizes.max())


def _of_slices(geometry: Geometry, numbers: tuple[int, ...], shape: tuple[int, ...]) -> Geometry:
    """Geometry of the slices taken; none where their spacing is uneven."""
    if geometry.voxel_mm is None or geometry.affine is None or len(numbers) == shape[0]:
        return geometry
    steps = set(np.diff(numbers).tolist()) or {1}
    if len(steps) > 1 or min(steps) < 1:
        return Geometry()
    step = steps.pop()
    affine = geometry.affine.copy()
    affine[:3, 3] += numbers[0] * affine[:3, 2]
    affine[:3, 2] *= step
    dz, dy, dx = geometry.voxel_mm
    field = (dz * step * len(numbers), dy * shape[1], dx * shape[2])
    return Geometry((dz * step, dy, dx), field, affine, geometry.orientation_known)


def _provenance(settings: Simulation, what: str, numbers: tuple[int, ...], count: int) -> dict[str, Any]:
    return {
        **asdict(settings),
        "source": Path(what).name,
        "source_slices": count,
        "slices": list(numbers),
        "toolkit_version": __version__,
    }


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").rsplit(".", 1)[0]
