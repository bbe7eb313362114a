"""Residual on withheld samples: how well a method predicts measured lines that it was not shown, over their noise."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from nirvana_mri.physics.sampling import phase_lines
from nirvana_mri.recon.problem import SliceProblem
from nirvana_mri.recon.split import calibration_centre, misfit, thinned

SHARE = 0.1  # of the lines (samples) outside the calibration centre that are withheld
FEWEST = 2  # lines withheld, at least
LEAST_LINES = 4  # outside the calibration centre, below which none can be spared
NOISE_LIKE, CONSISTENT, HIGH = 1.2, 2.0, 4.0  # times the noise; where they come from: benchmarks/results/trust.md
EXPLAINED = 0.5  # share of the signal on withheld lines that a consistent prediction gets right
Solver = Callable[[SliceProblem], Tensor]


@dataclass(frozen=True)
class Residual:
    """RMS of predicted minus measured on withheld samples, over the RMS of their noise: 1 is as good as noise allows.

    ``value`` is the median of ``values``, one for each of ``slices``; None where it is not defined, and ``sentence``
    says why. ``withheld`` of ``lines`` measured ``unit`` were not shown. ``noise_from`` says where the noise level
    comes from; where that is an upper bound, ``lower_bound`` is True: the ratio is at least ``value``. ``zeros`` is
    what a prediction of nothing would get, ``explained`` the share of the signal's energy on the withheld lines, above
    the noise, that was predicted (below 0: worse than nothing); None where there is hardly any.
    """

    value: float | None
    badge: str | None
    sentence: str
    withheld: int = 0
    lines: int = 0
    unit: str = "lines"
    noise_from: str | None = None
    lower_bound: bool = False
    zeros: float | None = None
    explained: float | None = None
    slices: tuple[int, ...] = ()
    values: tuple[float, ...] = ()
    seed: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def undefined(cls, why: str) -> "Residual":
        """No value, and a sentence that says why."""
        return cls(None, None, why)


@dataclass(frozen=True)
class Miss:
    """One slice's residual: of the method, of a prediction of zeros, and of how many lines (samples)."""

    value: float
    zeros: float
    withheld: int
    lines: int
    unit: str
    noise_measured: bool


def badge_of(value: float, explained: float | None) -> str:
    """``consistent``: at most twice the noise, with half of the signal predicted or hardly any to predict. ``high``:
    beyond four times the noise, or a prediction worse than none. Else ``elevated``.
    """
    share = 1.0 if explained is None else explained
    if value <= CONSISTENT and share >= EXPLAINED:
        return "consistent"
    return "high" if value > HIGH or share < 0 else "elevated"


def explained_share(value: float, zeros: float) -> float | None:
    """Of the signal's energy on the withheld lines, above the noise; None where nothing would do nearly as well."""
    return 1 - (value**2 - 1) / (zeros**2 - 1) if zeros > NOISE_LIKE else None


def withhold(problem: SliceProblem, seed: Sequence[int]) -> Bool[Tensor, "*mask"] | None:
    """The samples to withhold: one of each ten lines outside the calibration centre, drawn from neighbours so that
    they are spread; single samples where both axes are phase-encoded. None where none can be spared.
    """
    mask = problem.operator.mask
    outer = (mask & ~calibration_centre(problem)).cpu().numpy()
    lines = phase_lines(mask.cpu().numpy())
    units = outer if lines is None or outer.ndim == 1 else lines & ~(mask.cpu().numpy() & ~outer).any(axis=0)
    places = np.flatnonzero(units)
    if len(places) < LEAST_LINES:
        return None
    draw = np.random.default_rng([*seed, 5])
    groups = np.array_split(places, max(FEWEST, round(SHARE * len(places))))
    chosen = np.zeros(units.size, bool)
    chosen[[int(draw.choice(group)) for group in groups]] = True
    aside = outer & chosen.reshape(units.shape)
    return torch.from_numpy(aside).to(mask.device)


def miss(problem: SliceProblem, solver: Solver, seed: Sequence[int] = (0,)) -> Miss | None:
    """What a method misses of the withheld samples of one slice; None where none can be spared, or noise is zero.

    The method is given the slice as if they had not been measured; what it would do to them afterwards, in a data
    consistency step, plays no part. Coil maps come from the calibration centre, which is never withheld.
    """
    aside = withhold(problem, seed)
    if aside is None or problem.sigma == 0:
        return None
    mask = problem.operator.mask
    image = solver(thinned(problem, mask & ~aside))
    wrong, measured = misfit(image.to(problem.data), problem, aside)
    rows = problem.data.shape[-2] if aside.ndim == 1 else 1
    samples = int(aside.sum()) * rows * problem.data.shape[0]
    by_samples = phase_lines(mask.cpu().numpy()) is None
    counted = [part if by_samples or part.ndim == 1 else part.any(0) for part in (aside, mask)]
    return Miss(
        value=float(wrong.norm()) / math.sqrt(samples) / problem.sigma,
        zeros=float(measured.norm()) / math.sqrt(samples) / problem.sigma,
        withheld=int(counted[0].sum()),
        lines=int(counted[1].sum()),
        unit="samples" if by_samples else "lines",
        noise_measured=problem.noise_measured,
    )


def residual_of(misses: Sequence[Miss], slices: Sequence[int], seed: int) -> Residual:
    """The residual of a scan from those of some of its slices: their median, in numbers and in words."""
    if not misses:
        return Residual.undefined(
            "not measured: too few lines outside the calibration centre to withhold any, or no noise to compare with"
        )
    values = [found.value for found in misses]
    value = float(np.median(values))
    zeros = float(np.median([found.zeros for found in misses]))
    explained = explained_share(value, zeros)
    first = misses[0]
    measured = all(found.noise_measured for found in misses)
    spread = f"; median of {len(values)} slices, {min(values):.2f} to {max(values):.2f}" if len(values) > 1 else ""
    words = (
        f"On {first.withheld} of {first.lines} measured {first.unit} that the method was not shown, its prediction is "
        f"off by {value:.2f} times their noise (1 is as good as noise allows{spread})."
    )
    if explained is None:
        words += " These hold hardly any signal above the noise, so the figure says little."
    else:
        words += f" Predicting nothing would be off by {zeros:.2f}: {_share_words(explained)}."
    if not measured:
        words += " The noise level is an upper bound, from the corners of k-space: the true ratio may be higher."
    return Residual(
        value=value,
        badge=badge_of(value, explained),
        sentence=words,
        withheld=first.withheld,
        lines=first.lines,
        unit=first.unit,
        noise_from="the noise measurement" if measured else "the corners of k-space (an upper bound)",
        lower_bound=not measured,
        zeros=zeros,
        explained=explained,
        slices=tuple(slices),
        values=tuple(values),
        seed=seed,
    )


def _share_words(explained: float) -> str:
    if explained < 0:
        return "the prediction is worse than none"
    return f"{100 * explained:.0f} % of the signal's energy there was predicted"
