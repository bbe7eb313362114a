"""What a volume says of itself: where it lies, how it was made, and what to mind."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nirvana_mri import __version__
from nirvana_mri.recon.checkpoint import LoadedModel
from nirvana_mri.recon.coverage import distance_warnings
from nirvana_mri.recon.peers import Peer
from nirvana_mri.recon.sampling import Sampling
from nirvana_mri.scan import Scan
from nirvana_mri.volume import NOT_FOR_CLINICAL_USE, SYNTHETIC


def affine_of(scan: Scan, numbers: list[int]) -> NDArray[np.float64]:
    """Where these slices lie: (x, y, slice) to RAS mm; the identity where the scan does not say."""
    affine = np.eye(4) if scan.geometry.affine is None else np.array(scan.geometry.affine, dtype=np.float64)
    moved = affine.copy()
    moved[:3, 3] += affine[:3, 2] * numbers[0]
    if len(numbers) > 1:
        moved[:3, 2] *= numbers[1] - numbers[0]
    return moved


def provenance_of(
    scan: Scan, method: str, loaded: LoadedModel | Peer | None, sampling: Sampling, combine: str, prewhitened: bool
) -> dict[str, Any]:
    """How the volume was made, JSON-ready."""
    source = {"format": scan.file_format, "coils": scan.shape[1], "matrix": list(scan.shape[2:]), "raw": scan.raw}
    source |= {} if scan.raw else {"kspace": SYNTHETIC}
    source |= {"volume": scan.volume, "volumes": scan.volumes} if scan.volumes > 1 else {}
    return {
        "method": method,
        "applied": "plain coil combination: fully sampled, nothing to restore" if sampling.complete else method,
        "model": loaded.name if loaded else None,
        "model_sha256": loaded.sha256 if loaded else None,
        "backbone_sha256": loaded.backbone_sha256 if isinstance(loaded, LoadedModel) else None,
        "sampling": sampling.description,
        "combine": combine,
        "prewhitened": prewhitened,
        "simulated": scan.simulated,
        "source": source,
        "metadata": {name: value for name, value in scan.metadata.items() if _is_plain(value)},
        "toolkit_version": __version__,
        "notice": NOT_FOR_CLINICAL_USE,
    }


def _is_plain(value: Any) -> bool:
    """True for what JSON can hold as it is."""
    return isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value))


def warnings_of(scan: Scan, sampling: Sampling, loaded: LoadedModel | None) -> tuple[str, ...]:
    """What is to be known before the volume is believed."""
    notes = list(scan.warnings)
    if sampling.complete:
        notes.append("the scan is fully sampled: nothing to restore; give accelerate to try a method on it")
    elif loaded is not None:
        notes += distance_warnings(loaded.covers, scan, sampling.acceleration)
    if sampling.description["origin"] == "retrospective" and not scan.fully_sampled:
        notes.append("the scan came undersampled; the mask left fewer samples than it asks for")
    return tuple(notes)
