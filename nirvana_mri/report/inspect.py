"""inspect: what a file is, what it lacks, and what is wrong with it, before anything is reconstructed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nirvana_mri import __version__
from nirvana_mri.errors import UsageError
from nirvana_mri.physics.sampling import calibration_region
from nirvana_mri.recon.open import open_scan
from nirvana_mri.report.encoding import calibration_lines, encoded_acceleration
from nirvana_mri.report.lint import Finding, lint
from nirvana_mri.report.sampling_pattern import describe_pattern
from nirvana_mri.scan import Scan
from nirvana_mri.volume import NOT_FOR_CLINICAL_USE

BRIGHT = 90  # percentile of the picture that stands for signal
FEW_LINES = 8  # of calibration: maps from fewer are coarse


@dataclass(frozen=True)
class Inspection:
    """What a file says, lacks and shows. Lengths in mm, (slice, ny, nx); matrices are (ny, nx) = (readout, phase).

    ``acceleration`` is encoded phase lines over distinct measured ones: padding counts on neither side, what partial
    Fourier left out counts as encoded. ``calibration`` is the fully sampled block about the centre of k-space,
    ``calibration_lines`` its phase lines. ``noise`` is the standard deviation of the real part of one sample of one
    coil, on the scan's scale: from the noise scan, or else an upper bound from the corners of k-space, because what
    signal is left there counts as noise. ``snr`` is the 90th percentile of the fully calibrated part's RSS picture over
    it: what a fully sampled picture would have, without the cost of the acceleration. Pictures have neither. ``raw`` is
    False where the k-space is made, or was found to be made, from pictures, which count as one coil.

    ``findings`` come from ``slices_inspected``, those on spikes and clipping also from ``slices_screened``;
    ``not_judged`` says which kinds could not be looked for, and why.
    """

    name: str
    file_format: str
    raw: bool
    slices: int
    coils: int
    multicoil: bool
    volume: int
    volumes: int
    matrix: tuple[int, int]
    picture: tuple[int, int]
    fully_sampled: bool
    sampling: str
    acceleration: float
    measured_columns: int
    calibration: tuple[int, int]
    calibration_lines: int
    inspected_slice: int
    noise: float | None
    noise_from: str
    snr: float | None
    voxel_mm: tuple[float, float, float] | None
    field_of_view_mm: tuple[float, float, float] | None
    orientation_known: bool
    has_target: bool
    simulated: bool
    findings: tuple[Finding, ...]
    missing: tuple[str, ...]
    slices_inspected: tuple[int, ...]
    slices_screened: tuple[int, ...]
    not_judged: Mapping[str, str]
    metadata: Mapping[str, Any]
    warnings: tuple[str, ...]
    toolkit_version: str = __version__
    notice: str = NOT_FOR_CLINICAL_USE

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "format": self.file_format,
            "geometry_known": self.orientation_known,
            **asdict(self),
            "metadata": {key: _plain(value) for key, value in self.metadata.items()},
        }

    def worst(self) -> str:
        """The gravest severity found: error, warning, info or none."""
        found = {finding.severity for finding in self.findings}
        return next((level for level in ("error", "warning", "info") if level in found), "none")


def inspect(
    source: Scan | str | Path, *, progress: Callable[[int, int], None] | None = None, **options: Any
) -> Inspection:
    """Look at a scan: its header, its sampling, and its samples in some slices or all (the result names them).

    ``options`` say more than the file does, as for ``open_scan``; ``progress`` is called with (done, total) slices.
    Raises: ScanError for a file that cannot be used, UsageError for options that do not fit.
    """
    if isinstance(source, Scan) and options:
        raise UsageError(f"options {', '.join(sorted(options))} are for opening a file; this scan is open already")
    scan = source if isinstance(source, Scan) else open_scan(source, **options)
    slices, coils, ny, nx = scan.shape
    rows, columns = calibration_region(scan.acquired)
    calibration = (len(range(*rows.indices(ny))), columns.stop - columns.start)
    noise, origin, snr = _levels(scan, slices // 2, (rows, columns))
    found = lint(scan, progress)
    made = any(finding.name == "magnitude-born" for finding in found.findings)
    lines = calibration_lines(scan)
    return Inspection(
        name=scan.name,
        file_format=scan.file_format,
        raw=scan.raw and not scan.simulated and not made,
        slices=slices,
        coils=coils if scan.raw else 1,
        multicoil=scan.multicoil and scan.raw,
        volume=scan.volume,
        volumes=scan.volumes,
        matrix=(ny, nx),
        picture=scan.crop,
        fully_sampled=scan.fully_sampled,
        sampling=describe_pattern(scan.acquired),
        acceleration=encoded_acceleration(scan),
        measured_columns=int(np.count_nonzero(scan.acquired.reshape(-1, nx).any(axis=0))),
        calibration=calibration,
        calibration_lines=lines,
        inspected_slice=slices // 2,
        noise=noise,
        noise_from=origin,
        snr=snr,
        voxel_mm=scan.geometry.voxel_mm,
        field_of_view_mm=scan.geometry.field_of_view_mm,
        orientation_known=scan.geometry.orientation_known,
        has_target=scan.raw and scan.reference is not None,
        simulated=scan.simulated,
        findings=found.findings,
        missing=_missing(scan, lines),
        slices_inspected=found.slices_inspected,
        slices_screened=found.slices_screened,
        not_judged=found.not_judged,
        metadata=dict(scan.metadata),
        warnings=_warnings(scan, lines, found.empty_coils),
    )


def _levels(scan: Scan, number: int, block: tuple[slice, slice]) -> tuple[float | None, str, float | None]:
    """(noise, where it was measured, signal over noise) of one slice."""
    import torch

    from nirvana_mri.physics.coils import rss
    from nirvana_mri.physics.fourier import ifft2c
    from nirvana_mri.physics.noise import noise_energy, noise_sigma

    if not scan.raw:
        return None, "nowhere: pictures hold no noise of coils", None
    samples = torch.from_numpy(np.where(scan.acquired, scan.kspace[number], 0))
    peak = float(torch.view_as_real(samples).abs().max())
    samples = samples / peak  # squares of fastMRI's small numbers stay representable
    if scan.noise is not None and scan.noise.size:
        sigma, origin = float((scan.noise / peak).std()) / 2**0.5, "the noise scan"
    else:
        sigma = noise_sigma(noise_energy(samples, torch.from_numpy(scan.acquired)), samples.shape[0])
        origin = "the corners of k-space"
    calibrated = torch.zeros_like(samples)
    calibrated[:, block[0], block[1]] = samples[:, block[0], block[1]]
    bright = float(np.percentile(rss(ifft2c(calibrated)).numpy(), BRIGHT))
    return sigma * peak, origin, bright / sigma if sigma > 0 and bright > 0 else None


def _missing(scan: Scan, lines: int) -> tuple[str, ...]:
    """What a reconstruction would want and the file lacks, and what follows."""
    lacks = []
    if not scan.raw:
        lacks.append("raw k-space: its acquisition is simulated, and scores on it say less than those on measured data")
    if scan.geometry.voxel_mm is None:
        lacks.append("voxel size: lengths in the output mean nothing")
    if not scan.geometry.orientation_known:
        lacks.append("orientation: DICOM output needs --assume-orientation, and left and right are not known")
    if scan.raw and lines == 0:
        lacks.append("the centre of k-space: coil maps cannot be estimated")
    elif scan.raw and scan.multicoil and lines < FEW_LINES:
        lacks.append(f"calibration lines: there are {lines}, coil maps want {FEW_LINES} or more, better 24")
    if scan.raw and scan.noise is None:
        lacks.append("noise scan: noise is taken from the corners of k-space, and coils stay as they are")
    if scan.raw and scan.reference is None:
        how = "the fully sampled picture can serve" if scan.fully_sampled else "nothing to score against"
        lacks.append(f"target picture: {how}")
    return tuple(lacks)


def _warnings(scan: Scan, lines: int, empty: tuple[int, ...]) -> tuple[str, ...]:
    found = list(scan.warnings)
    if scan.simulated and not any("simulated" in note or "synthetic" in note for note in found):
        found.append("k-space simulated from a picture: its scores say less than those on measured k-space")
    if not scan.geometry.orientation_known and not any("orientation" in note for note in found):
        found.append("orientation unknown: the file does not say how the slices lie in the patient")
    if lines == 0:
        found.append("the centre of k-space was not measured: coil maps cannot be estimated")
    elif scan.multicoil and lines < FEW_LINES:
        found.append(f"only {lines} calibration lines: coil maps will be coarse")
    if empty:
        found.append(f"{len(empty)} of the coils hold nothing (coil {', '.join(map(str, empty[:8]))})")
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
