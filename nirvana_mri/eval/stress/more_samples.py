"""More samples than before: nothing may get worse."""

import numpy as np

from nirvana_mri.eval.stress.bench import Level, Values
from nirvana_mri.eval.stress.case import Case, Sampled
from nirvana_mri.eval.stress.criterion import Criterion, Limits
from nirvana_mri.eval.stress.methods import NIRVANA
from nirvana_mri.eval.stress.stress import Stress
from nirvana_mri.eval.stress.wrong_mask import some_of


def more_samples(sampled: Sampled, level: Level, draw: np.random.Generator) -> Case:
    """All that was measured and more lines, ``level`` times as many in all; the target stays."""
    few = int(sampled.mask.sum())
    extra = round(few * (float(level) - 1))  # type: ignore[arg-type]
    mask = sampled.mask | some_of(~sampled.mask & sampled.acquired, extra, draw)
    return Case(sampled.kspace, mask, sampled.target, details=(("times_as_many", int(mask.sum()) / few),))


def _hindrance(level: Level, sampled: Sampled) -> str:
    wanted, there = float(level) * int(sampled.mask.sum()), int(sampled.acquired.sum())  # type: ignore[arg-type]
    return "" if wanted <= there else f"the scan holds {there / int(sampled.mask.sum()):.2f} times as many samples"


def _margin(values: Values, change: Values, limits: Limits) -> float:
    return float(change[NIRVANA]["ssim"] + limits["fall"])


MORE_SAMPLES = Stress(
    title="More samples",
    about="Lines drawn at random among those left out are measured as well; all others stay. A method that uses its "
    "data can only gain. Networks have been seen to lose.",
    source="Antun et al. 2020, PNAS 117:30088, third kind of instability",
    unit="times as many samples",
    levels=(1.25, 1.5, 2.0, 3.0),
    quick=(1.5, 2.0),
    criterion=Criterion("SSIM does not fall by more than 0.005", {"fall": 0.005}, _margin),
    make=more_samples,
    hindrance=_hindrance,
)
