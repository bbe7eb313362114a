"""Other accelerations than the one asked for, trained and not."""

from __future__ import annotations

import numpy as np

from nirvana_mri.errors import UsageError
from nirvana_mri.eval.stress.bench import Level, Values
from nirvana_mri.eval.stress.case import FEWER_CALIBRATION, Case, Mask, Sampled, kind_of
from nirvana_mri.eval.stress.criterion import Criterion, Limits
from nirvana_mri.eval.stress.methods import NIRVANA, SENSE
from nirvana_mri.eval.stress.stress import Stress
from nirvana_mri.physics.masks import make_mask
from nirvana_mri.physics.sampling import achieved_acceleration


def other_acceleration(sampled: Sampled, level: Level, draw: np.random.Generator) -> Case:
    """The slice thinned anew, ``level``-fold, by a mask of the kind asked for; the target stays."""
    mask = _mask(sampled, level)
    achieved = achieved_acceleration(mask, sampled.acquired)
    return Case(sampled.kspace, mask, sampled.target, details=(("achieved_acceleration", achieved),))


def _mask(sampled: Sampled, level: Level) -> Mask:
    factor, asked = float(level), sampled.asked  # type: ignore[arg-type]
    centre = min(asked.center_fraction, FEWER_CALIBRATION / factor)
    ny, nx = sampled.kspace.shape[1:]
    made = make_mask(kind_of(asked), (ny, nx), factor, centre, asked.seed)
    return made & sampled.acquired


def _hindrance(level: Level, sampled: Sampled) -> str:
    try:
        _mask(sampled, level)
    except UsageError as reason:
        return str(reason)
    return ""


def _margin(values: Values, change: Values, limits: Limits) -> float:
    return float(values[NIRVANA]["ssim"] - values[SENSE]["ssim"] + limits["slack"])


ACCELERATION = Stress(
    title="Another acceleration",
    about="The scan is thinned as if it had been 2 to 10 times faster, by the same kind of mask. The share of the "
    "centre is that of fastMRI, 0.32 over the acceleration, and never more than asked for. What the model was trained "
    "for is in its card.",
    source="Knoll et al. 2019, Magn Reson Med 81:116; Darestani et al. 2021, ICML (robustness to other distributions)",
    unit="x",
    levels=(2, 3, 4, 6, 8, 10),
    quick=(2, 4, 8),
    criterion=Criterion("SSIM is at least that of CG-SENSE less 0.01", {"slack": 0.01}, _margin),
    make=other_acceleration,
    shows=("values", "ssim", "SSIM"),
    hindrance=_hindrance,
)
