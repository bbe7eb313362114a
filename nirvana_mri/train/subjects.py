"""What a file of the index gives when a slice of it is measured."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from nirvana_mri.io.nifti import read_image_volume
from nirvana_mri.io.slices import lend
from nirvana_mri.physics.simulate import Simulation, simulate_slice
from nirvana_mri.recon.hybrid import HybridSlice, hybrid_slice
from nirvana_mri.recon.open import open_scan
from nirvana_mri.scan import Scan
from nirvana_mri.train.augment import vary_picture
from nirvana_mri.train.cache import HybridCache
from nirvana_mri.train.index import Entry, Index
from nirvana_mri.train.lesions import Lesion, insert_lesions

SCANS_KEPT, PICTURES_KEPT = 4096, 32  # opened files that a process keeps; pictures stay in memory
LEAST_SIGNAL = 0.25  # a slice whose mean is below this share of the volume's best slice is mostly air
SIMULATED_COILS = (1, 2, 4, 6, 8, 8, 10, 12, 16)


@dataclass(frozen=True, eq=False)
class FullSlice:
    """One fully sampled slice: its shape (coils, ny, nx), what of it was acquired, the crop of the picture; of a scan
    its number, of what is simulated the noise energy and the lesions put in.

    ``kspace`` reads (or hands out) complex64 ``[coil ny nx]``, for use at once; ``hybrid`` the same in hybrid space,
    where ``acquired`` is by column. A simulated picture brings its own noise, which an estimate from k-space would take
    for the coils'.
    """

    shape: tuple[int, int, int]
    acquired: np.ndarray
    crop: tuple[int, int]
    kspace: Callable[[], np.ndarray]
    kept: Callable[[], HybridSlice | None]
    number: int | None = None
    noise_energy: float | None = None
    lesions: tuple[Lesion, ...] = ()

    def hybrid(self) -> HybridSlice:
        return self.kept() or hybrid_slice(self.kspace(), self.acquired, self.crop)


@dataclass(frozen=True)
class Subject:
    """One file of the index; what it holds is read when it is asked for, in hybrid space from ``cache`` if given."""

    path: Path
    entry: Entry
    cache: HybridCache | None = None

    @property
    def name(self) -> str:
        return self.entry.name

    def measure(
        self, draw: np.random.Generator, largest: int, matrix: tuple[int, int] | None = None, lesions: bool = False
    ) -> FullSlice:
        """One slice; of pictures, a varied one (of that matrix, if it can be; with lesions of ours if wanted) seen by
        coils that never were.
        """
        if self.entry.is_scan:
            scan = _scan(self.path)
            return self.slice(int(draw.integers(scan.shape[0])))
        picture = pick_slice(_pictures(self.path), self.entry.isotropic, draw)
        image = vary_picture(picture, draw, largest, matrix, spots=not lesions)
        image, inserted = insert_lesions(image, draw) if lesions else (image, ())
        coils = int(draw.choice(SIMULATED_COILS))
        noise = float(np.exp(draw.uniform(np.log(0.002), np.log(0.05))))
        settings = Simulation(coils, noise, float(draw.uniform(0, 6)), int(draw.integers(2**31)))
        peak = float(image.abs().max()) if inserted else 1.0
        kspace = simulate_slice(image, settings, index=int(draw.integers(8)), slices=8, peak=peak).numpy()
        return FullSlice(
            (coils, kspace.shape[1], kspace.shape[2]),
            acquired=np.ones(kspace.shape[-1], dtype=bool),
            crop=(kspace.shape[1], kspace.shape[2]),
            kspace=lambda: kspace,
            kept=lambda: None,
            noise_energy=coils * (noise * peak) ** 2,
            lesions=inserted,
        )

    def slice(self, number: int) -> FullSlice:
        """A slice of a scan, not read yet."""
        scan, cache = _scan(self.path), self.cache
        return FullSlice(
            scan.shape[1:],
            scan.acquired,
            scan.crop,
            kspace=lambda: lend(scan.kspace, number),
            kept=lambda: None if cache is None else cache.slice(scan, self.entry.fingerprint, number),
            number=number,
        )


@lru_cache(maxsize=SCANS_KEPT)
def _scan(path: Path) -> Scan:
    """An opened scan: a few kilobytes, its k-space still in the file."""
    return open_scan(path)


@lru_cache(maxsize=PICTURES_KEPT)
def _pictures(path: Path) -> np.ndarray:
    """All of a volume of pictures, float32 ``[slice ny nx]``."""
    return np.abs(read_image_volume(path)[0]).astype(np.float32)


def pick_slice(pictures: np.ndarray, isotropic: bool, draw: np.random.Generator) -> np.ndarray:
    """One slice with something in it; of isotropic volumes two in five are cut across another axis."""
    axis = int(draw.choice([0, 1, 2], p=[0.6, 0.2, 0.2])) if isotropic else 0
    content = pictures.mean(axis=tuple(other for other in range(3) if other != axis))
    return np.take(pictures, int(draw.choice(np.flatnonzero(content >= LEAST_SIGNAL * content.max()))), axis)


def subjects_of(index: Index, names: Iterable[str], cache: HybridCache | None = None) -> list[Subject]:
    """The subjects of these names, in the index's order."""
    wanted = set(names)
    return [Subject(index.folder / entry.file, entry, cache) for entry in index.entries if entry.name in wanted]
