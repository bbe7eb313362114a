"""What every written reconstruction says of itself: how it was made, from what, and that it is no clinical picture."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.volume import NOT_FOR_CLINICAL_USE, SYNTHETIC, Volume

Volumes = Volume | Sequence[Volume]
NOTICE = NOT_FOR_CLINICAL_USE.upper()
HASH_DIGITS = 12
LARGEST = 1 << 31  # voxels in all


def as_volumes(given: Volumes) -> list[Volume]:
    """One volume or several, as a list. Raises: UsageError for none."""
    volumes = [given] if isinstance(given, Volume) else list(given)
    if not volumes:
        raise UsageError("no volume to write, expected at least one; nothing written")
    return volumes


def check_volumes(volumes: Sequence[Volume], path: str | Path) -> None:
    """Nothing, where ``volumes`` can be written as one file or series; else DataError, beginning with ``path``."""
    first = volumes[0]
    for volume in volumes:
        voxels = volume.voxels
        if voxels.ndim != 3 or voxels.dtype.kind not in "fc" or 0 in voxels.shape:
            found = f"{voxels.dtype} {voxels.shape}"
            raise DataError(f"{path}: voxels are {found}, expected real or complex (slices, ny, nx); nothing written")
    for volume in volumes[1:]:
        voxels = volume.voxels
        if voxels.shape != first.voxels.shape or (voxels.dtype.kind == "c") != (first.voxels.dtype.kind == "c"):
            found = f"{first.voxels.dtype} {first.voxels.shape} and {voxels.dtype} {voxels.shape}"
            raise DataError(f"{path}: volumes of {found} do not fit in one file; write each by itself")
        if volume.orientation_known != first.orientation_known or not _close(volume.affine, first.affine):
            raise DataError(f"{path}: the volumes lie in different places (affines differ); write each by itself")
    if math.prod(first.voxels.shape) * len(volumes) > LARGEST:
        raise DataError(f"{path}: {len(volumes)} x {first.voxels.shape} voxels, at most 2**31; write fewer slices")
    for volume in volumes:
        for number, picture in enumerate(volume.voxels):
            if not np.isfinite(picture).all():
                raise DataError(f"{path}: slice {number} has NaN or Inf; reconstruct again; nothing written")


def check_even(volume: Volume, path: str | Path) -> None:
    """Nothing, where the slices are evenly spaced, so that one affine places them all; else DataError."""
    steps = set(np.diff(volume.slices).tolist()) if len(volume.slices) == len(volume.voxels) else set()
    if len(steps) > 1:
        shown = ", ".join(str(number) for number in volume.slices[:6]) + (" …" if len(volume.slices) > 6 else "")
        raise DataError(f"{path}: slices {shown} are unevenly spaced; choose an even range, or write .h5 or .png")


def record(volume: Volume, path: str | Path) -> dict[str, Any]:
    """The provenance of a volume, JSON-ready, with what its files must say beside it. Raises: DataError."""
    made = {
        **volume.provenance,
        "notice": NOT_FOR_CLINICAL_USE,
        "synthetic_kspace": is_synthetic(volume),
        "orientation": orientation_words(volume),
        "orientation_known": bool(volume.orientation_known) and assumed(volume) is None,
        "slices": [int(number) for number in volume.slices or range(len(volume.voxels))],
        "warnings": list(volume.warnings),
    }
    to_json(made, path)
    return made


def unknown_provenance() -> dict[str, Any]:
    """The provenance of a picture that was made elsewhere."""
    unknown = ("model", "model_sha256", "sampling", "acceleration", "toolkit_version")
    return {"method": "unknown", **dict.fromkeys(unknown), "notice": NOT_FOR_CLINICAL_USE}


def to_json(value: Any, path: str | Path, indent: int | None = None) -> str:
    """Strict JSON: no NaN, nothing that only Python can read. Raises: DataError."""
    try:
        return json.dumps(value, allow_nan=False, indent=indent)
    except (TypeError, ValueError) as problem:
        raise DataError(f"{path}: provenance is not JSON-ready ({problem}); nothing written") from problem


def is_synthetic(volume: Volume) -> bool:
    """True where no scanner measured the k-space: it was made from pictures."""
    made = volume.provenance
    source = made.get("source")
    born = source.get("raw") if isinstance(source, Mapping) else None
    return bool(made.get("simulated")) or made.get("raw") is False or born is False


def assumed(volume: Volume) -> str | None:
    """The orientation that the user, not the scan, vouches for; None where nothing was assumed."""
    words = volume.provenance.get("assumed_orientation")
    return str(words) if words else None


def orientation_words(volume: Volume) -> str:
    """known, assumed, or unknown, and what that means for a reader of the picture."""
    if (words := assumed(volume)) is not None:
        return f"orientation assumed {words}, not from the scan: left and right may be exchanged, no position"
    if volume.orientation_known:
        return "orientation from the scan"
    return "orientation unknown" + ("" if sizes_known(volume) else ", voxel size unknown (1 mm stands in)")


def sizes_known(volume: Volume) -> bool:
    """False where the affine is the identity that stands in for a scan without a header."""
    affine = np.asarray(volume.affine)
    stand_in = np.array_equal(affine[:3, :3], np.eye(3)) and not affine[:2, 3].any()
    return volume.orientation_known or not stand_in


def method_words(volume: Volume) -> str:
    """Method and, where there is one, the model with a short hash."""
    made = volume.provenance
    sha256 = made.get("model_sha256")
    adapted = ", adapted to this scan" if (made.get("adaptation") or {}).get("kept") else ""
    strength = made.get("strength", 1)
    turned = f", strength {strength:g} (0: CG-SENSE)" if strength != 1 else ""
    model = f" (model {made.get('model')} {str(sha256)[:HASH_DIGITS]}{adapted}{turned})" if sha256 else ""
    return f"{made.get('method', 'unknown method')}{model}"


def adaptation_words(volume: Volume) -> str:
    """What adapting the model to the scan brought, on samples set aside, and what it cost; empty where none was."""
    came = volume.provenance.get("adaptation")
    if not came:
        return ""
    change = 100 * (came["after"] / came["before"] - 1)
    verdict = (
        f"codecs of step {came['best']} used" if came["kept"] else "too uncertain a gain: the model used as it was"
    )
    fell = f"{came['before']:.4g} -> {came['after']:.4g} ({change:+.1f} %)"
    cost = f"in {came['steps']} steps, {came['seconds']:.0f} s"
    return f"error on {came['columns']} columns set aside {fell}, p {came['p_value']:.2g}, {cost}; {verdict}"


def trust_words(volume: Volume) -> str:
    """The residual on withheld lines and the null-space fraction; empty where trust was not measured."""
    trust = volume.provenance.get("trust")
    if not isinstance(trust, Mapping):
        return ""
    residual, fraction = trust.get("residual") or {}, trust.get("null_space_fraction")
    value = residual.get("value")
    least = "at least " if residual.get("lower_bound") else ""
    words = "no residual on withheld lines"
    if value is not None:
        words = f"residual on withheld lines {least}{value:.2f} times the noise ({residual.get('badge')})"
    return words if fraction is None else f"{words}, null-space fraction {fraction:.4f}"


def sampling_words(volume: Volume) -> str:
    """The sampling in words: mask, nominal and achieved acceleration."""
    made = volume.provenance
    sampling = made.get("sampling")
    if not isinstance(sampling, Mapping):
        return str(sampling or "unknown")
    if sampling.get("origin") == "fully sampled":
        return "fully sampled"
    nominal, achieved = sampling.get("acceleration"), sampling.get("achieved_acceleration")
    words = str(sampling.get("mask") or sampling.get("origin") or "unknown")
    words += f" {nominal:g}x" if isinstance(nominal, int | float) else ""
    extra = [
        f"{key.replace('_', ' ')} {sampling[key]}"
        for key in ("center_fraction", "seed")
        if sampling.get(key) is not None
    ]
    words += f" ({', '.join(extra)})" if extra else ""
    return words + (f", achieved {achieved:.2f}x" if isinstance(achieved, int | float) else "")


def derivation_words(volume: Volume) -> str:
    """One line: notice, toolkit, method, model hash, sampling, and what is not measured about the picture."""
    parts = [
        NOTICE,
        f"nirvana-mri {volume.provenance.get('toolkit_version', '')}".strip(),
        f"method {method_words(volume)}",
        f"sampling {sampling_words(volume)}",
    ]
    if trust := trust_words(volume):
        parts.append(trust)
    if is_synthetic(volume):
        parts.append(SYNTHETIC)
    if assumed(volume) is not None or not volume.orientation_known:
        parts.append(orientation_words(volume))
    return plain("; ".join(parts))


def plain(text: str, limit: int | None = None) -> str:
    """Text on one line without control characters or backslashes, which separate values in DICOM.

    ``limit`` is the longest in bytes of UTF-8; a text that was cut ends in three dots.
    """
    clean = re.sub(r"[\x00-\x1f\x7f-\x9f\s]+", " ", text.replace("\\", "/")).strip()
    if limit is None or len(clean.encode()) <= limit:
        return clean
    return clean.encode()[: limit - 3].decode(errors="ignore").rstrip() + "..."


def _close(one: Any, other: Any) -> bool:
    return np.shape(one) == np.shape(other) and bool(np.allclose(one, other, rtol=0, atol=1e-4))
