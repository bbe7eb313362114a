"""Scan-specific adaptation: the codecs learn from the samples that this very scan measured (Yaman 2022)."""

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.stats import ttest_1samp
from torch import Tensor, nn

from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.recon.model import NirvanaRecon
from nirvana_mri.recon.problem import SliceProblem
from nirvana_mri.recon.split import calibration_centre, misfit, spread_evenly, thinned

MOST_SLICES = 4  # that are learned from, spread evenly over the scan
ROWS = 128  # of a strip that a step looks at, where rows are problems of their own
HELD_OUT = 0.15  # share of the samples outside the calibration region that only judge
ASKED = 0.3  # share of the others that a step asks for
LEAST_UNITS = 4  # columns outside the calibration region, below which nothing is learned
LEARNING_RATE = 1e-4
CLIP = 1.0
EVERY = 10  # steps between judgements
PATIENCE = 3  # judgements without a better one, after which it ends
DOUBT = 0.05  # probability, below which it must be that columns gain so much by chance
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Adaptation:
    """What came of an adaptation.

    ``before`` and ``after`` are errors on held-out samples, ‖predicted − measured‖² / ‖measured‖² over the slices that
    were learned from. ``p_value`` is that of the columns' log ratios of error, after over before, being no less than
    zero in the mean (one-sided t test over ``columns``). ``kept`` says whether the adapted codecs are used; ``steps``
    is how many were taken of the ``asked``, ``best`` the one whose codecs were judged best.
    """

    asked: int
    steps: int
    best: int
    before: float
    after: float
    p_value: float
    columns: int
    kept: bool
    slices: int
    seconds: float
    seed: int


def adapt(
    model: NirvanaRecon,
    problems: Sequence[SliceProblem],
    steps: int,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[NirvanaRecon, Adaptation]:
    """(a model, what came of it): codecs trained on the measured samples of these problems, if that helps them.

    Of the samples outside the calibration region a part is set aside; of the others each step hides some, reconstructs
    from what is left and is judged by what it hid (Yaman 2020, SSDU). Every 10 steps the part set aside judges: the
    best codecs are kept, where chance hardly explains that its columns gained; else the model comes back as it was.
    The backbone never moves, and ``model`` stays as it is.

    Raises: UsageError for no steps, or too few samples outside the calibration region.
    """
    if steps < 1:
        raise UsageError(f"adapt is {steps}; expected at least one step")
    began = time.monotonic()
    draw = np.random.default_rng([seed, 4])
    splits = [_Split.of(problem, draw) for problem in _spread(problems)]
    learner = copy.deepcopy(model).requires_grad_(False).train()
    codecs = nn.ModuleList([learner.encoder, learner.decoder]).requires_grad_(True)
    optimizer = torch.optim.Adam(codecs.parameters(), LEARNING_RATE)
    first = best = _errors(learner, splits)
    kept, at, taken = copy.deepcopy(codecs.state_dict()), 0, 0
    for step in range(1, steps + 1):
        try:
            _step(learner, splits[int(draw.integers(len(splits)))], optimizer, draw)
            found = _errors(learner, splits) if step % EVERY == 0 or step == steps else None
        except DataError:  # the weights have run away, and the model meets numbers without end
            break
        taken = step
        if found is not None and found.sum() < best.sum():
            best, kept, at = found, copy.deepcopy(codecs.state_dict()), step
        if progress is not None:
            progress(step, steps)
        if step - at >= EVERY * PATIENCE:
            break
    chance = _chance(first, best) if at else 1.0
    sure = chance < DOUBT
    codecs.load_state_dict(kept)
    outcome = Adaptation(
        asked=steps,
        steps=taken,
        best=at,
        before=float(first.sum()),
        after=float(best.sum()),
        p_value=chance,
        columns=len(first),
        kept=sure,
        slices=len(splits),
        seconds=round(time.monotonic() - began, 1),
        seed=seed,
    )
    return (learner.requires_grad_(False).eval() if sure else model), outcome


@dataclass(frozen=True, eq=False)
class _Split:
    """A problem whose measured samples are cut in three: seen always (calibration), open to learning, and set aside;
    masks in the form of the problem's own. ``shown`` is all of it but what is set aside.
    """

    problem: SliceProblem
    shown: SliceProblem
    always: Bool[Tensor, "*mask"]
    open: Bool[Tensor, "*mask"]
    aside: Bool[Tensor, "*mask"]

    @classmethod
    def of(cls, problem: SliceProblem, draw: np.random.Generator) -> "_Split":
        mask = problem.operator.mask
        centre = calibration_centre(problem)
        outer = mask & ~centre
        columns = outer if outer.ndim == 1 else outer.any(0)
        if int(columns.sum()) < LEAST_UNITS:
            raise UsageError(
                f"adapt has {int(columns.sum())} measured columns outside the calibration region to learn from; "
                f"expected at least {LEAST_UNITS}: leave adapt out"
            )
        aside = _some(outer, HELD_OUT, draw)
        return cls(problem, thinned(problem, mask & ~aside), mask & centre, outer & ~aside, aside)


def _some(mask: Tensor, share: float, draw: np.random.Generator) -> Tensor:
    """A share of a mask's samples, at least one, and not all."""
    places = np.flatnonzero(mask.cpu().numpy())
    count = min(max(1, round(share * len(places))), len(places) - 1)
    chosen = torch.zeros(mask.numel(), dtype=torch.bool)
    chosen[torch.from_numpy(draw.choice(places, count, replace=False))] = True
    return chosen.view(mask.shape).to(mask.device)


def _spread(problems: Sequence[SliceProblem]) -> list[SliceProblem]:
    return [problems[number] for number in spread_evenly(len(problems), MOST_SLICES)]


def _step(model: NirvanaRecon, split: _Split, optimizer: torch.optim.Optimizer, draw: np.random.Generator) -> None:
    asked = _some(split.open, ASKED, draw)
    problem = _strip(split.shown, draw)
    seen = split.always | (split.open & ~asked)
    image = model([thinned(problem, seen)])[0]
    wrong, measured = misfit(image, problem, asked)
    loss = wrong.norm() / measured.norm() + wrong.abs().sum() / measured.abs().sum()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], CLIP)
    optimizer.step()


def _strip(problem: SliceProblem, draw: np.random.Generator) -> SliceProblem:
    """Rows about one where there is signal, of a problem in hybrid space; any other as it is."""
    ny = problem.data.shape[-2]
    if ny <= ROWS or not problem.operator.hybrid:
        return problem
    energy = problem.data.abs().square().sum((0, 2)).double().cpu().numpy()
    middle = int(draw.choice(ny, p=energy / energy.sum()))
    return problem.rows(int(np.clip(middle - ROWS // 2, 0, ny - ROWS)), ROWS)


@torch.no_grad()
def _errors(model: NirvanaRecon, splits: Sequence[_Split]) -> Float[Tensor, "unit"]:
    """Squared error of each column's samples set aside, as a share of all that was measured there: they sum to the
    relative error. The model is not shown them.
    """
    found, energy = [], 0.0
    for split in splits:
        image = model([split.shown])[0]
        wrong, measured = misfit(image, split.problem, split.aside)
        columns = split.aside if split.aside.ndim == 1 else split.aside.any(0)
        found.append(wrong.abs().square().double().sum((0, 1))[columns].cpu())
        energy += float(measured.abs().square().double().sum())
    return torch.cat(found) / energy


def _chance(before: Tensor, after: Tensor) -> float:
    """How likely columns gain so much, each by its own factor, though nothing was gained; 1 where that is unknown."""
    ratios = (after / before).log().numpy()
    found = float(ttest_1samp(ratios, 0.0, alternative="less").pvalue) if len(ratios) > 1 else 1.0
    return found if math.isfinite(found) else 1.0
