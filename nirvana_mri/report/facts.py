"""Scans and reconstructions as rows of (what, value), for tables on a terminal and on a page."""

from __future__ import annotations

from collections.abc import Iterable

from nirvana_mri.io.writers.derivation import adaptation_words, sampling_words
from nirvana_mri.ranges import number_ranges
from nirvana_mri.report.inspect import Inspection
from nirvana_mri.volume import Volume

Facts = list[tuple[str, str]]


def scan_facts(found: Inspection) -> Facts:
    """What a scan is."""
    kind = "multi-coil" if found.multicoil else "single-coil"
    contrast = found.metadata.get("acquisition") or found.metadata.get("sequence")
    coils = f", {_count(found.coils, 'coil')}" if _is_of_samples(found) else ""
    rows = [
        ("file", f"{found.name} ({found.file_format}, {kind if coils else 'pictures'})"),
        ("contrast", str(contrast) if contrast else ""),
        ("slices, coils" if coils else "slices", f"{_count(found.slices, 'slice')}{coils}"),
        ("volumes", f"{found.volumes}, of which this is {found.volume} (from 0)" if found.volumes > 1 else ""),
        ("k-space matrix", f"{_by(found.matrix)} (readout × phase encoding)" if coils else ""),
        ("picture matrix", _by(found.picture)),
        ("voxel size", _lengths(found.voxel_mm)),
        ("field of view", _lengths(found.field_of_view_mm)),
        ("orientation", "known" if found.orientation_known else "unknown"),
        ("sampling", f"{found.sampling}; {_sampled(found)}" if coils else ""),
        ("calibration", f"{_count(found.calibration_lines, 'line')} (block of {_by(found.calibration)})" * bool(coils)),
        ("noise", _noise(found)),
        ("signal to noise", f"at least {found.snr:.0f} if fully sampled" if found.snr else "not measurable"),
        ("target pictures", ("in the file" if found.has_target else "none in the file") if coils else ""),
        ("origin", _origin(found)),
        *((_label(key), value) for key, value in _header_values(found)),
    ]
    return [(label, value) for label, value in rows if value]


def reconstruction_facts(volume: Volume) -> Facts:
    """How a volume was made."""
    made = volume.provenance
    sha256 = made.get("model_sha256")
    model = f"{made.get('model')} (sha256 {sha256})" if sha256 else str(made.get("model") or "none: no learned part")
    rows = [
        ("method", str(made.get("method"))),
        ("model", model),
        ("adapted", adaptation_words(volume)),
        ("sampling", sampling_words(volume)),
        ("slices", number_ranges(volume.slices)),
        ("voxels", f"{_by(volume.voxels.shape)}, {'complex' if volume.voxels.dtype.kind == 'c' else 'magnitude'}"),
        ("toolkit", f"nirvana-mri {made.get('toolkit_version')}"),
    ]
    return [(label, value) for label, value in rows if value]


def _header_values(found: Inspection) -> Iterable[tuple[str, str]]:
    wanted = ("field_strength_t", "tr_ms", "te_ms", "ti_ms", "flip_angle_deg")
    return [(key, f"{found.metadata[key]:g}") for key in wanted if isinstance(found.metadata.get(key), int | float)]


def _is_of_samples(found: Inspection) -> bool:
    """True where the file holds k-space, False where it holds pictures."""
    return found.raw or bool(found.slices_screened)


def _origin(found: Inspection) -> str:
    if found.simulated:
        return "simulated from a picture" if _is_of_samples(found) else "pictures: k-space can only be simulated"
    return "not marked as simulated" if found.raw else "made from magnitudes, though not marked so"


def _noise(found: Inspection) -> str:
    if found.noise is None:
        return f"measured {found.noise_from}"
    bound = "" if "scan" in found.noise_from else "at most "
    return f"{bound}{found.noise:.3g} (real part, one sample of one coil; from {found.noise_from})"


def _sampled(found: Inspection) -> str:
    columns = f"{found.measured_columns} of {found.matrix[1]} columns"
    return f"{columns}, fully sampled" if found.fully_sampled else f"{columns}, {found.acceleration:.2f}x accelerated"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _by(numbers: Iterable[int]) -> str:
    return " × ".join(str(n) for n in numbers)


def _lengths(millimetres: tuple[float, float, float] | None) -> str:
    """(slice, ny, nx) as a reader expects it: in plane first."""
    if millimetres is None:
        return "unknown: the file does not say"
    slices, ny, nx = millimetres
    return f"{ny:.4g} × {nx:.4g} mm in plane, {slices:.4g} mm through plane"


def _label(key: str) -> str:
    units = {"t": "[T]", "ms": "[ms]", "deg": "[°]"}
    *words, last = key.split("_")
    return " ".join([*words, units.get(last, last)])
