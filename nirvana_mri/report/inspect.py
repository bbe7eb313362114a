"""inspect: what a scan is, before anything is reconstructed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nirvana_mri import __version__
from nirvana_mri.physics.sampling import achieved_acceleration, calibration_region
from nirvana_mri.recon.open import open_scan
from nirvana_mri.report.sampling_pattern import describe_pattern
from nirvana_mri.scan import Scan
from nirvana_mri.volume import NOT_FOR_CLINICAL_USE

BRIGHT = 90  # percentile of the picture that stands for signal


@dataclass(frozen=True)
class Inspection:
    """What a file says and what its central slice shows. Lengths in mm; matrices are (ny, nx) = (readout, phase).

    ``acceleration`` is grid samples per measured sample, zero-padded borders aside. ``noise`` is the standard
    deviation of the real part of one sample of one coil, on the scan's scale: an upper bound, because what signal is
    left in the corners of k-space counts as noise. ``snr`` is the 90th percentile of the fully calibrated part's RSS
    picture over it: what a fully sampled picture would have, without the cost of the acceleration.
    """

    name: str
    file_format: str
    slices: int
    coils: int
    multicoil: bool
    matrix: tuple[int, int]
    picture: tuple[int, int]
    fully_sampled: bool
    sampling: str
    acceleration: float
    measured_columns: int
    calibration: tuple[int, int]
    inspected_slice: int
    noise: float
    snr: float | None
    voxel_mm: tuple[float, float, float] | None
    field_of_view_mm: tuple[float, float, float] | None
    orientation_known: bool
    has_target: bool
    simulated: bool
    metadata: Mapping[str, Any]
    warnings: tuple[str, ...]
    toolkit_version: str = __version__
    notice: str = NOT_FOR_CLINICAL_USE

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "metadata": {key: _plain(value) for key, value in self.metadata.items()}}


def inspect(source: Scan | str | Path) -> Inspection:
    """Look at a scan: its header and sampling, and of its samples the central slice only.

    Raises: ScanError for a file that cannot be used.
    """
    scan = source if isinstance(source, Scan) else open_scan(source)
    slices, coils, ny, nx = scan.shape
    rows, columns = calibration_region(scan.acquired)
    calibration = (len(range(*rows.indices(ny))), columns.stop - columns.start)
    noise, snr = _levels(scan, slices // 2, (rows, columns))
    return Inspection(
        name=scan.name,
        file_format=scan.file_format,
        slices=slices,
        coils=coils,
        multicoil=scan.multicoil,
        matrix=(ny, nx),
        picture=scan.crop,
        fully_sampled=scan.fully_sampled,
        sampling=describe_pattern(scan.acquired),
        acceleration=achieved_acceleration(scan.acquired, scan.acquired),
        measured_columns=int(np.count_nonzero(scan.acquired.reshape(-1, nx).any(axis=0))),
        calibration=calibration,
        inspected_slice=slices // 2,
        noise=noise,
        snr=snr,
        voxel_mm=scan.geometry.voxel_mm,
        field_of_view_mm=scan.geometry.field_of_view_mm,
        orientation_known=scan.geometry.orientation_known,
        has_target=scan.reference is not None,
        simulated=scan.simulated,
        metadata=dict(scan.metadata),
        warnings=_warnings(scan, calibration),
    )


def _levels(scan: Scan, number: int, block: tuple[slice, slice]) -> tuple[float, float | None]:
    """(noise, signal over noise) of one slice."""
    import torch

    from nirvana_mri.physics.coils import rss
    from nirvana_mri.physics.fourier import ifft2c
    from nirvana_mri.physics.noise import noise_energy, noise_sigma

    samples = torch.from_numpy(scan.kspace[number])
    peak = float(torch.view_as_real(samples).abs().max())
    samples = samples / peak  # squares of fastMRI's small numbers stay representable
    sigma = noise_sigma(noise_energy(samples, torch.from_numpy(scan.acquired)), samples.shape[0])
    calibrated = torch.zeros_like(samples)
    calibrated[:, block[0], block[1]] = samples[:, block[0], block[1]]
    bright = float(np.percentile(rss(ifft2c(calibrated)).numpy(), BRIGHT))
    return sigma * peak, bright / sigma if sigma > 0 and bright > 0 else None


def _warnings(scan: Scan, calibration: tuple[int, int]) -> tuple[str, ...]:
    found = list(scan.warnings)
    if scan.simulated and not any("simulated" in note for note in found):
        found.append("k-space simulated from a picture: its scores say less than those on measured k-space")
    if not scan.geometry.orientation_known and not any("orientation" in note for note in found):
        found.append("orientation unknown: the file does not say how the slices lie in the patient")
    if min(calibration) == 0:
        found.append("the centre of k-space was not measured: coil maps cannot be estimated")
    elif scan.multicoil and min(calibration) < 8:
        found.append(f"only {min(calibration)} calibration lines: coil maps will be coarse")
    return tuple(found)


def _plain(value: Any) -> Any:
    """A header's value as JSON has it."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple | list | np.ndarray):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return value if isinstance(value, str | int | float | bool | None) else str(value)
