"""The pictures that a reconstruction is scored against, wherever they come from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.errors import DataError, ProtocolError
from nirvana_mri.io.fastmri import metadata_of
from nirvana_mri.io.hdf5 import SafeFile
from nirvana_mri.io.slices import ReferenceSlices
from nirvana_mri.recon.open import open_scan
from nirvana_mri.scan import Scan, SliceSource

RSS, ESC = "reconstruction_rss", "reconstruction_esc"
COMPUTED = "rss computed from k-space"
GIVEN = "array"


@dataclass(frozen=True, eq=False)
class Target:
    """`pictures[i]` is the real target [ny nx] of slice i, read or computed at that moment; `kind` says what it is.

    `metadata` is the scan's, as far as the file says it; `simulated` that no scanner measured its k-space.
    """

    name: str
    pictures: SliceSource
    kind: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    simulated: bool = False

    def __len__(self) -> int:
        return len(self.pictures)

    def volume(self, slices: tuple[int, ...]) -> NDArray[Any]:
        """The pictures of these slices, [slice ny nx]. Raises ProtocolError for a slice that is not there."""
        for number in slices:
            if not 0 <= number < len(self):
                raise ProtocolError(
                    f"{self.name}: the prediction holds slice {number}, the target has slices 0 to {len(self) - 1}; "
                    "does it belong to this scan?"
                )
        return np.stack([self.pictures[number] for number in slices])


def open_target(source: Scan | NDArray[Any] | str | Path) -> Target:
    """The target of a scan, of a file in fastMRI's layout (k-space may be missing), or of an array [slice ny nx].

    A fully sampled scan without target pictures gives its RSS over all coils, cropped to the finished picture,
    and says so in `kind`. Raises DataError where there is nothing to score against, ScanError for a bad file.
    """
    if isinstance(source, Scan):
        return _of_scan(source)
    if isinstance(source, str | Path):
        return _of_file(Path(source))
    pictures = np.abs(source) if np.iscomplexobj(source) else np.asarray(source)
    if pictures.ndim != 3 or pictures.dtype.kind not in "biuf" or pictures.size == 0:
        raise DataError(f"target array is {pictures.dtype} {pictures.shape}, expected numbers [slice, ny, nx]")
    if not np.isfinite(pictures).all():
        raise DataError("target array has NaN or Inf; compute it again")
    return Target("target", pictures if pictures.dtype.kind == "f" else pictures.astype(np.float32), GIVEN)


def _of_file(path: Path) -> Target:
    """A target-only file, as fastMRI's own evaluation accepts, or a scan."""
    if not path.is_file():
        raise DataError(f"{path}: no such target file; check the path")
    with SafeFile(path, DataError) as file:
        if not file.has("kspace") and (file.has(RSS) or file.has(ESC)):
            key = RSS if file.has(RSS) else ESC
            stored = file.dataset(key)
            if stored.ndim != 3 or stored.dtype.kind != "f" or stored.size == 0:
                raise file.fail(
                    f"{key} is {stored.dtype} {stored.shape}, expected real numbers (slices, rows, columns)"
                )
            pictures = ReferenceSlices(path, key, tuple(stored.shape))
            return Target(path.name, pictures, key, metadata_of(file), file.has_attribute("simulated"))
    return _of_scan(open_scan(path))


def _of_scan(scan: Scan) -> Target:
    name = scan.path.name if scan.path else scan.name
    if scan.reference is not None:
        kind = getattr(scan.reference, "key", RSS if scan.multicoil else ESC)
        return Target(name, scan.reference, kind, scan.metadata, scan.simulated)
    if not scan.fully_sampled:
        raise DataError(
            f"{name}: no target ({RSS} or {ESC}) and k-space is undersampled, as in fastMRI's test files; "
            "score against a fully sampled scan"
        )
    return Target(name, ComputedRSS(scan), COMPUTED, scan.metadata, scan.simulated)


@dataclass(frozen=True, eq=False)
class ComputedRSS:
    """Root sum of squares over all coils of a fully sampled scan, cropped about the centre."""

    scan: Scan

    @property
    def shape(self) -> tuple[int, int, int]:
        return (len(self), *self.scan.crop)

    def __len__(self) -> int:
        return len(self.scan.kspace)

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        import torch

        from nirvana_mri.physics.coils import rss
        from nirvana_mri.physics.fourier import ifft2c

        picture = rss(ifft2c(torch.from_numpy(self.scan.kspace[index]))).numpy()
        return centre_crop(picture, self.scan.crop)


def centre_crop(pictures: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """The middle `size` of the last two axes, from (n - size) // 2 on, as fastMRI crops. It must fit."""
    starts = [(n - m) // 2 for n, m in zip(pictures.shape[-2:], size, strict=True)]
    return pictures[..., starts[0] : starts[0] + size[0], starts[1] : starts[1] + size[1]]
