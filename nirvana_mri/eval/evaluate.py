"""Scores of reconstructions against their targets, one volume at a time."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.errors import DataError, ProtocolError
from nirvana_mri.eval import metrics
from nirvana_mri.eval.pairing import pair_files
from nirvana_mri.eval.protocol import FASTMRI, Protocol, require_same
from nirvana_mri.eval.target import GIVEN, Target, centre_crop, open_target
from nirvana_mri.io.save import load_volume
from nirvana_mri.physics.masks import achieved_acceleration
from nirvana_mri.scan import Scan
from nirvana_mri.volume import Volume


@dataclass(frozen=True)
class Score:
    """One volume's scores. `acceleration` is what its mask achieved, None for predictions made elsewhere."""

    file: str
    ssim: float
    psnr: float  # dB, infinite where prediction and target are equal
    nmse: float
    acceleration: float | None
    protocol: Protocol
    slices: tuple[int, ...] | None = None  # of the scan, where the prediction holds only some

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready (an infinite PSNR is None)."""
        row = {"file": self.file, "ssim": self.ssim, "psnr": _finite(self.psnr), "nmse": self.nmse}
        row["acceleration"] = self.acceleration
        return row if self.slices is None else {**row, "slices": list(self.slices)}


@dataclass(frozen=True)
class Report:
    """Scores under one protocol, and their unweighted mean."""

    protocol: Protocol
    volumes: tuple[Score, ...]
    warnings: tuple[str, ...] = ()

    @property
    def mean(self) -> dict[str, float]:
        """Of ssim, psnr and nmse over the volumes, each counting once."""
        return {key: float(np.mean([getattr(v, key) for v in self.volumes])) for key in ("ssim", "psnr", "nmse")}

    def as_dict(self) -> dict[str, Any]:
        """What ``nirvana-mri evaluate --json`` writes."""
        return {
            "protocol": self.protocol.as_dict(),
            "volumes": [score.as_dict() for score in self.volumes],
            "mean": {key: _finite(value) for key, value in self.mean.items()},
        }


def evaluate(volume: Volume | NDArray[Any], target: Scan | NDArray[Any] | str | Path) -> Score:
    """Score one reconstruction by fastMRI's rule, and stamp the score with it.

    A complex reconstruction counts by its magnitude. A Volume that holds only some slices of the scan is compared
    with those alone; the protocol then says so, and the data range is the maximum of those target slices.

    Raises: ProtocolError where sizes or slices do not belong together; DataError for NaN or Inf in the prediction
    or a scan without a target.
    """
    reference = open_target(target)
    name = volume.name if isinstance(volume, Volume) else reference.name
    return _score(name, volume, reference)


def evaluate_files(
    predictions: str | Path, targets: str | Path, progress: Callable[[int, int], None] | None = None
) -> Report:
    """Score prediction files (dataset ``reconstruction``) against the scans of the same name.

    Each is a file or a folder; two files are a pair whatever they are called. `progress(done, total)` is called
    after each volume. Predictions without a target are ignored but named in ``Report.warnings``.

    Raises: DataError where a target has no prediction, before anything is scored, or a file cannot be used;
    ProtocolError where two volumes would be scored by different rules.
    """
    pairs, warnings = pair_files(Path(predictions), Path(targets))
    scores = []
    for prediction, target in pairs:
        scores.append(_score(prediction.name, load_volume(prediction), open_target(target)))
        if progress is not None:
            progress(len(scores), len(pairs))
    protocol = require_same((score.file, score.protocol) for score in scores)
    return Report(protocol, tuple(scores), warnings)


def _score(name: str, volume: Volume | NDArray[Any], target: Target) -> Score:
    slices = _slices(name, volume, target)
    subset = slices != tuple(range(len(target)))
    wanted, found = _cropped(name, target.volume(slices), _magnitude(name, volume))
    protocol = replace(FASTMRI, target=target.kind, slices="some, listed with each volume" if subset else "all")
    return Score(
        file=name,
        ssim=metrics.ssim(wanted, found),
        psnr=metrics.psnr(wanted, found),
        nmse=metrics.nmse(wanted, found),
        acceleration=_acceleration(volume),
        protocol=protocol,
        slices=slices if subset else None,
    )


def _slices(name: str, volume: Volume | NDArray[Any], target: Target) -> tuple[int, ...]:
    """Which slices of the target the prediction stands for."""
    voxels = volume.voxels if isinstance(volume, Volume) else volume
    if voxels.ndim != 3 or voxels.size == 0:
        raise ProtocolError(f"{name}: the prediction is {voxels.shape}, expected [slice, ny, nx]")
    count = voxels.shape[0]
    if isinstance(volume, Volume) and _made_here(volume) and not (target.kind == GIVEN and count == len(target)):
        if len(volume.slices) != count:
            raise ProtocolError(
                f"{name}: {count} predicted slices but {len(volume.slices)} slice numbers; write it again"
            )
        return volume.slices
    if count != len(target):
        raise ProtocolError(
            f"{name}: {count} slices predicted, {len(target)} in the target, and the prediction does not say which; "
            "predict them all"
        )
    return tuple(range(count))


def _magnitude(name: str, volume: Volume | NDArray[Any]) -> NDArray[Any]:
    voxels = volume.voxels if isinstance(volume, Volume) else volume
    if voxels.dtype.kind not in "biufc":
        raise DataError(f"{name}: the prediction is {voxels.dtype}, expected numbers")
    voxels = np.abs(voxels) if np.iscomplexobj(voxels) else voxels
    bad = [i for i, picture in enumerate(voxels) if not np.isfinite(picture).all()]
    if bad:
        raise DataError(
            f"{name}: the prediction has NaN or Inf in {len(bad)} slices (first {bad[0]}); reconstruct it again"
        )
    return voxels if voxels.dtype.kind == "f" else voxels.astype(np.float32)


def _cropped(name: str, wanted: NDArray[Any], found: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    width = wanted.shape[-1]
    for what, pictures in (("target", wanted), ("prediction", found)):
        if min(pictures.shape[1:]) < width:
            raise ProtocolError(
                f"{name}: {what} pictures are {pictures.shape[1]}x{pictures.shape[2]}, "
                f"fastMRI's rule compares the central {width}x{width} (the target's width); nothing is resized here"
            )
    return centre_crop(wanted, (width, width)), centre_crop(found, (width, width))


def _made_here(volume: Volume) -> bool:
    """Files made elsewhere tell neither their slices nor their sampling."""
    return bool(volume.provenance.get("toolkit_version"))


def _acceleration(volume: Volume | NDArray[Any]) -> float | None:
    """What the reconstruction says that it achieved, or else its mask; None where it was not made by this toolkit."""
    if not isinstance(volume, Volume) or not _made_here(volume):
        return None
    sampling = volume.provenance.get("sampling")
    stated = sampling.get("achieved_acceleration") if isinstance(sampling, Mapping) else None
    if isinstance(stated, int | float):
        return float(stated)
    return achieved_acceleration(volume.mask) if volume.mask.size else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
