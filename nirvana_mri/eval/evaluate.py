"""Scores of one reconstruction against its target."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.errors import DataError, ProtocolError
from nirvana_mri.eval import rules
from nirvana_mri.eval.protocol import Protocol, protocol_named
from nirvana_mri.eval.regions import Box, Region, region_scores
from nirvana_mri.eval.target import GIVEN, Target, centre_crop, open_target
from nirvana_mri.physics.masks import achieved_acceleration
from nirvana_mri.scan import Scan
from nirvana_mri.volume import Volume


@dataclass(frozen=True)
class Score:
    """One volume's scores, with the rule that they were made by.

    ``acceleration`` is what its mask achieved, None for predictions made elsewhere; ``worst_slice`` the (number, SSIM)
    of the slice that came out worst.
    """

    file: str
    ssim: float
    psnr: float  # dB, infinite where prediction and target are equal
    nmse: float
    acceleration: float | None
    protocol: Protocol
    slices: tuple[int, ...] | None = None  # of the scan, where the prediction holds only some
    ms_ssim: float | None = None  # None below 161 pixels a side
    haarpsi: float | None = None
    edge_sharpness: float | None = None
    worst_slice: tuple[int, float] | None = None
    regions: tuple[Region, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready (an infinite PSNR is None)."""
        row: dict[str, Any] = {"file": self.file}
        row |= {key: finite(getattr(self, key)) for key in rules.METRICS}
        row["acceleration"] = self.acceleration
        if self.worst_slice is not None:
            row["worst_slice"] = {"slice": self.worst_slice[0], "ssim": self.worst_slice[1]}
        return row if self.slices is None else {**row, "slices": list(self.slices)}


def evaluate(
    volume: Volume | NDArray[Any], target: Scan | NDArray[Any] | str | Path, protocol: str = "fastmri"
) -> Score:
    """Score one reconstruction by a named rule, and stamp the score with it.

    A complex reconstruction counts by its magnitude. A Volume that holds only some slices of the scan is compared
    with those alone; the protocol then says so, and the data range is the maximum of those target slices.

    Raises: ProtocolError where sizes or slices do not belong together; DataError for NaN or Inf in the prediction
    or a scan without a target; UsageError for a protocol that does not exist.
    """
    reference = open_target(target)
    name = volume.name if isinstance(volume, Volume) else reference.name
    return score_volume(name, volume, reference, protocol_named(protocol))


def score_volume(
    name: str, volume: Volume | NDArray[Any], target: Target, protocol: Protocol, boxes: Sequence[Box] = ()
) -> Score:
    """The scores of one volume, with those within ``boxes``, under ``name``."""
    slices = _slices(name, volume, target)
    subset = slices != tuple(range(len(target)))
    stored = target.volume(slices)
    wanted, found = _cropped(name, stored, _magnitude(name, volume))
    try:
        scores = rules.score(protocol.name, wanted, found)
    except DataError as problem:
        raise type(problem)(f"{name}: {problem}") from problem
    acceleration = _acceleration(volume)
    values = {key: value for key, value in asdict(scores).items() if key != "each"}
    worst = min((value, number) for value, number in zip(scores.each, slices, strict=True) if value is not None)
    return Score(
        file=name,
        **values,
        acceleration=acceleration,
        protocol=replace(
            protocol,
            target=target.kind,
            slices="some, listed with each volume" if subset else "all",
            acceleration=acceleration,
        ),
        slices=slices if subset else None,
        worst_slice=(worst[1], worst[0]),
        regions=region_scores(boxes, wanted, found, slices, stored.shape[1:], protocol.name, name),
    )


def compared_slice(
    name: str, volume: Volume | NDArray[Any], target: Target, number: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """(target, prediction) of slice ``number`` of the scan, as scores compare them. Errors as for :func:`evaluate`."""
    place = _slices(name, volume, target).index(number)
    voxels = volume.voxels if isinstance(volume, Volume) else volume
    wanted, found = _cropped(name, target.volume((number,)), _magnitude(name, voxels[place : place + 1]))
    return wanted[0], found[0]


def _slices(name: str, volume: Volume | NDArray[Any], target: Target) -> tuple[int, ...]:
    """Which slices of the target the prediction stands for."""
    voxels = volume.voxels if isinstance(volume, Volume) else volume
    if voxels.ndim != 3 or voxels.size == 0:
        raise ProtocolError(f"{name}: the prediction is {voxels.shape}, expected [slice, ny, nx]")
    count = voxels.shape[0]
    if isinstance(volume, Volume) and made_here(volume) and not (target.kind == GIVEN and count == len(target)):
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


def made_here(volume: Volume) -> bool:
    """Files made elsewhere tell neither their slices nor their sampling."""
    return bool(volume.provenance.get("toolkit_version"))


def _acceleration(volume: Volume | NDArray[Any]) -> float | None:
    """What the reconstruction says that it achieved, or else its mask; None where it was not made by this toolkit."""
    if not isinstance(volume, Volume) or not made_here(volume):
        return None
    sampling = volume.provenance.get("sampling")
    stated = sampling.get("achieved_acceleration") if isinstance(sampling, Mapping) else None
    if isinstance(stated, int | float):
        return float(stated)
    return achieved_acceleration(volume.mask) if volume.mask.size else None


def finite(value: float | None) -> float | None:
    """The value, or None where JSON has no word for it."""
    return value if value is not None and math.isfinite(value) else None
