"""Error bars by split conformal calibration on subjects whose truth is known."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from nirvana_mri import __version__
from nirvana_mri.atomic import atomic_path
from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.recon.nullspace import NullSpace
from nirvana_mri.recon.problem import SliceProblem, centre_crop

SCHEMA = "nirvana-mri error bars 1"
NEIGHBOURS = 5  # pixels a side over which what was invented is averaged
FOREGROUND = 0.1  # of the 99th percentile of a picture: what is darker is not judged
MUST_MATCH = ("method", "model_sha256", "combine", "strength")
LARGEST = 1 << 20  # bytes of a file of error bars
SLACK = 0.15  # by which an acceleration may differ from the calibration's, before it is said
SHIPPED = "shipped"  # in the place of a file: those that come with the package
PROMISE = (
    "On average over subjects that are exchangeable with those of the calibration, at least this share of the "
    "foreground pixels lies within the bar. It is a promise about the mean, not about any one subject, region or "
    "lesion. On real scans, which are not exchangeable with a simulated calibration, the bars are reported, not "
    "promised."
)


@dataclass(frozen=True)
class CalibratedBars:
    """What turns an error scale into error bars that hold ``level`` of the foreground pixels, in the mean over
    subjects: half width = ``quantile`` × scale × residual, the scan's own on withheld lines.

    ``residual_median`` is that of the calibration ``subjects``: a scan above it gets wider bars than they.
    ``protocol`` says how they were reconstructed.
    """

    quantile: float
    level: float
    subjects: int
    residual_median: float
    protocol: dict[str, Any] = field(default_factory=dict)
    toolkit_version: str = __version__

    def half_widths(self, scale: NDArray[Any], residual: float) -> NDArray[np.float32]:
        """Error bars (± so much) of a picture, from its error scale and its scan's residual."""
        return (self.quantile * residual * scale).astype(np.float32)

    def check(self, protocol: dict[str, Any]) -> tuple[str, ...]:
        """What to mind when these bars are put on a reconstruction made by ``protocol``. Raises: UsageError where they
        were calibrated on another method or model.
        """
        for key in MUST_MATCH:
            if self.protocol.get(key) != protocol.get(key):
                raise UsageError(
                    f"the error bars were calibrated with {key} {self.protocol.get(key)}, this is "
                    f"{protocol.get(key)}; calibrate them for it (scripts/calibrate_error_bars.py)"
                )
        here, there = protocol.get("acceleration"), self.protocol.get("acceleration")
        if here and there and abs(here / there - 1) > SLACK:
            return (f"error bars were calibrated at {there:.2f}x, this scan is {here:.2f}x: they may be too narrow",)
        return ()

    def save(self, path: str | Path) -> Path:
        """Write as JSON, whole or not at all."""
        with atomic_path(path) as temporary:
            text = json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1, allow_nan=False)
            temporary.write_text(text + "\n", encoding="utf-8")
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> CalibratedBars:
        """Read what :meth:`save` wrote. Raises: DataError for anything else."""
        path = Path(path)
        if not path.is_file() or path.stat().st_size > LARGEST:
            raise DataError(f"{path}: no file of error bars; make one with scripts/calibrate_error_bars.py")
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            if stored.pop("schema") != SCHEMA:
                raise ValueError("another schema")
            bars = cls(**stored)
            numbers = np.array([bars.quantile, bars.level, bars.subjects, bars.residual_median], float)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
            raise DataError(f"{path}: no file of error bars ({problem}); expected schema {SCHEMA!r}") from problem
        if not (np.isfinite(numbers).all() and (numbers > 0).all() and bars.level < 1):
            raise DataError(f"{path}: error bars of quantile {bars.quantile}, level {bars.level}; calibrate them again")
        return bars


def as_bars(given: CalibratedBars | str | Path | None) -> CalibratedBars | str | None:
    """Error bars as they are, from their file, or (SHIPPED) still to be chosen. Raises: DataError for another file."""
    if given is None or isinstance(given, CalibratedBars):
        return given
    return SHIPPED if given == SHIPPED else CalibratedBars.load(given)


def shipped_bars(protocol: dict[str, Any]) -> CalibratedBars:
    """Of the error bars in the package those of the nearest acceleration. Raises: UsageError where none were calibrated
    on this method and model.
    """
    folder = Path(str(resources.files("nirvana_mri") / "weights"))
    known = [CalibratedBars.load(path) for path in sorted(folder.glob("*-error-bars-*.json"))]
    alike = [bars for bars in known if all(bars.protocol.get(key) == protocol.get(key) for key in MUST_MATCH)]
    if not alike:
        asked = ", ".join(f"{key} {protocol.get(key)}" for key in MUST_MATCH)
        raise UsageError(f"no error bars come with {asked}; calibrate some (scripts/calibrate_error_bars.py)")
    here = protocol.get("acceleration") or 1.0
    return min(alike, key=lambda bars: abs(math.log(bars.protocol["acceleration"] / here)))


@dataclass(frozen=True, eq=False)
class Subject:
    """Of one subject: ``scores`` |truth − picture| / scale of its foreground pixels, and its ``residual``."""

    scores: NDArray[np.floating]
    residual: float


def error_scale(problem: SliceProblem, space: NullSpace) -> Float[Tensor, "rows columns"]:
    """A first guess of each pixel's error, on the scan's scale: √(R σ² + local mean of |invented|²).

    σ² is the noise energy of a combined pixel and R the acceleration: fewer samples, more noise. What was invented is
    where a method can be wrong without contradicting the data. How good the guess is, the calibration finds out.
    """
    mask = problem.operator.mask
    noise = problem.sigma**2 * mask.numel() / max(int(mask.sum()), 1)
    energy = space.invented.abs().square()[None, None]
    local = torch.nn.functional.avg_pool2d(
        energy, NEIGHBOURS, stride=1, padding=NEIGHBOURS // 2, count_include_pad=False
    )[0, 0]
    bright = 1.0 if problem.brightness is None else problem.brightness
    return centre_crop(bright * (local + noise).sqrt(), problem.crop) * problem.scale


def foreground(picture: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a picture is brighter than a tenth of its 99th percentile."""
    return np.asarray(picture > FOREGROUND * np.percentile(picture, 99))


def subject_of(pictures: NDArray[Any], truths: NDArray[Any], scales: NDArray[Any], residual: float) -> Subject:
    """The scores of one subject's slices ``[slice ny nx]``. Raises: DataError where there is nothing to judge."""
    inside = np.stack([foreground(picture) for picture in pictures]) & (scales > 0)
    if not inside.any() or not residual > 0:
        raise DataError("a subject has no foreground, no error scale or no residual; leave it out of the calibration")
    return Subject((np.abs(truths - pictures)[inside] / scales[inside]).astype(np.float32), residual)


def calibrate(
    subjects: Sequence[Subject], level: float = 0.9, protocol: dict[str, Any] | None = None
) -> CalibratedBars:
    """Bars that hold at least ``level`` of the pixels in the mean over subjects exchangeable with these.

    The subject, not the pixel, is the unit. With L(q) the share of a subject's pixels whose score over its residual
    exceeds q, the quantile is the smallest q with (Σ L(q) + 1) / (n + 1) ≤ 1 − level: conformal risk control
    (Angelopoulos 2022), split conformal with its finite-sample correction for a mean. Then level ≤ mean coverage ≤
    level + 2 / (n + 1).

    Raises: UsageError for a level outside (0, 1), or too few subjects for any finite bar.
    """
    if not 0 < level < 1:
        raise UsageError(f"level is {level:g}; expected a share between 0 and 1, 0.9 say")
    count = len(subjects)
    spare = (1 - level) * (count + 1) - 1  # of subjects that may be missed wholly
    if spare < -1e-9:
        least = int(np.ceil(1 / (1 - level) - 1e-9)) - 1
        raise UsageError(f"{count} subjects cannot calibrate bars of {level:.0%}; expected at least {least}")
    scores = np.concatenate([subject.scores / subject.residual for subject in subjects])
    weights = np.concatenate([np.full(len(subject.scores), 1 / len(subject.scores)) for subject in subjects])
    order = np.argsort(scores)
    beyond = weights.sum() - np.cumsum(weights[order])  # Σ L at each score, were it the quantile
    first = int(np.searchsorted(-beyond, -max(spare, 0.0) - 1e-9))
    residuals = [subject.residual for subject in subjects]
    return CalibratedBars(
        quantile=float(scores[order][min(first, len(scores) - 1)]),
        level=level,
        subjects=count,
        residual_median=float(np.median(residuals)),
        protocol=dict(protocol or {}),
    )


def coverage(bars: CalibratedBars, subjects: Sequence[Subject]) -> NDArray[np.float64]:
    """Share of each subject's foreground pixels that its bars hold, ``[subject]``."""
    return np.array([np.mean(subject.scores / subject.residual <= bars.quantile) for subject in subjects])


def mean_interval(values: NDArray[np.float64], level: float = 0.95) -> tuple[float, float, float]:
    """(mean, low, high) over subjects, by Student's t; the whole range 0 to 1 for a single one."""
    from scipy.stats import t

    mean = float(values.mean())
    if len(values) < 2:
        return mean, 0.0, 1.0
    half = float(t.ppf((1 + level) / 2, len(values) - 1)) * float(values.std(ddof=1)) / len(values) ** 0.5
    return mean, max(0.0, mean - half), min(1.0, mean + half)
