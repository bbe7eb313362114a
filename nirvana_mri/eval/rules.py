"""What each protocol computes of a target and a prediction that were cut to one size."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nirvana_mri.errors import DataError
from nirvana_mri.eval import metrics
from nirvana_mri.eval.foreground import foreground, foreground_nmse, foreground_psnr, foreground_ssim_each
from nirvana_mri.eval.haarpsi import haarpsi
from nirvana_mri.eval.metrics import Pictures
from nirvana_mri.eval.multiscale import ms_ssim
from nirvana_mri.eval.protocol import FASTMRI, FOREGROUND, PER_SLICE
from nirvana_mri.eval.sharpness import edge_sharpness

METRICS = ("ssim", "psnr", "nmse", "ms_ssim", "haarpsi", "edge_sharpness")


@dataclass(frozen=True)
class Scores:
    """One volume's. ``each`` is the SSIM of each slice, None where the rule has none of it."""

    ssim: float
    psnr: float  # dB, infinite where prediction and target are equal
    nmse: float
    ms_ssim: float | None  # None where a side is shorter than 161 pixels
    haarpsi: float
    edge_sharpness: float | None
    each: tuple[float | None, ...]


def score(protocol: str, target: Pictures, prediction: Pictures) -> Scores:
    """The scores of volumes [slice ny nx] under the protocol of this name. Raises: DataError for an empty target."""
    each, psnr, nmse = RULES[protocol](target, prediction)
    known = [value for value in each if value is not None]
    if not known:
        raise DataError("the foreground lies within 3 pixels of the border in every slice; choose --protocol fastmri")
    ranges = _ranges(protocol, target)
    slices = list(zip(target, prediction, ranges, strict=True))
    scales = [ms_ssim(*pair) for pair in slices]
    return Scores(
        ssim=sum(known) / len(known),
        psnr=psnr,
        nmse=nmse,
        ms_ssim=None if None in scales else float(np.mean(np.array(scales, float))),
        haarpsi=float(np.mean([haarpsi(*pair) for pair in slices])),
        edge_sharpness=edge_sharpness(target, prediction),
        each=tuple(each),
    )


Basic = tuple[list[float | None], float, float]


def _fastmri(target: Pictures, prediction: Pictures) -> Basic:
    return (
        [*metrics.ssim_each(target, prediction)],
        metrics.psnr(target, prediction),
        metrics.nmse(target, prediction),
    )


def _foreground(target: Pictures, prediction: Pictures) -> Basic:
    mask = foreground(metrics.comparable(target, prediction)[0])
    each = foreground_ssim_each(target, prediction, mask)
    return each, foreground_psnr(target, prediction, mask), foreground_nmse(target, prediction, mask)


def _per_slice(target: Pictures, prediction: Pictures) -> Basic:
    empty = [number for number, picture in enumerate(target) if not picture.max() > 0]
    if empty:
        raise DataError(
            f"{len(empty)} target slices (first {empty[0]} of those compared) are empty, and per-slice has no data "
            "range for them; choose --protocol fastmri"
        )
    pairs = [(target[n : n + 1], prediction[n : n + 1]) for n in range(len(target))]
    psnr, nmse = (float(np.mean([metric(*pair) for pair in pairs])) for metric in (metrics.psnr, metrics.nmse))
    return [metrics.ssim(*pair) for pair in pairs], psnr, nmse


RULES: dict[str, Callable[[Pictures, Pictures], Basic]] = {
    FASTMRI.name: _fastmri,
    FOREGROUND.name: _foreground,
    PER_SLICE.name: _per_slice,
}


def _ranges(protocol: str, target: Pictures) -> list[float]:
    """The data range of each slice."""
    if protocol == PER_SLICE.name:
        return [float(picture.max()) for picture in target]
    return [float(target.max())] * len(target)
