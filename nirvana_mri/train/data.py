"""Training examples: a slice, a mask, a target; a function of the seed and the step alone, so that resuming repeats
nothing.
"""

import logging
import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from nirvana_mri.errors import DataError, ScanError
from nirvana_mri.physics.coils import rss
from nirvana_mri.physics.fourier import ifft2c
from nirvana_mri.physics.masks import make_mask
from nirvana_mri.physics.sampling import apply_within
from nirvana_mri.physics.sense import SenseOperator
from nirvana_mri.recon.hybrid import prepare_hybrid
from nirvana_mri.recon.problem import SliceProblem, centre_crop, prepare_slice
from nirvana_mri.train.augment import SMALLEST
from nirvana_mri.train.config import MaskRecipe, TrainConfig
from nirvana_mri.train.exchange import Answers, Exchange, Known
from nirvana_mri.train.index import Entry
from nirvana_mri.train.subjects import FullSlice, Subject

PLANAR = ("poisson",)  # masks of the whole plane, which leave no hybrid space to cut strips from
LINES, BLOCK = 6, 12  # the smallest calibration region: columns, or the side of a block
OBJECT = 0.1  # of the brightest pixel: what lies above counts as the object
TINY = 1e-12
MOST_BAD = 20  # slices in a row that cannot be read, before that is an error
LARGEST_2D = 160  # pixels a side of simulated examples whose mask needs the whole plane


@dataclass(frozen=True, eq=False)
class Example:
    """A problem, its fully sampled RSS picture on the problem's scale, the SSIM data range, what is known of it, and
    (stage encoder) what is to be said of it.
    """

    problem: SliceProblem
    target: Float[Tensor, "ny nx"]
    data_range: float
    known: Known
    exchange: Exchange | None = None

    @property
    def matrix(self) -> tuple[int, int]:
        """(ny, nx) of the image that a model is to make; examples of one matrix fit into one batch."""
        _, ny, nx = self.problem.data.shape
        return ny, nx

    def to(self, device: str | torch.device) -> "Example":
        problem, operator = self.problem, self.problem.operator
        moved = replace(
            problem,
            data=problem.data.to(device),
            operator=SenseOperator(operator.maps.to(device), operator.mask.to(device)),
            certainty=problem.certainty.to(device),
            brightness=None if problem.brightness is None else problem.brightness.to(device),
        )
        return replace(self, problem=moved, target=self.target.to(device))


@dataclass(frozen=True)
class Plan:
    """What the examples of one step have in common, so that they fit into one batch: subjects that can be joined, a
    kind of mask, and the matrix of what is simulated.
    """

    subjects: tuple[int, ...]
    kind: str
    matrix: tuple[int, int] | None


class Examples(Dataset[Example]):
    """Items ``step * batch`` to ``(step + 1) * batch`` are the examples of a step, whoever asks, in whatever order.

    The examples of a batch have one matrix where the data allow it. With ``config.skip_bad`` a slice that cannot be
    read is named in a warning, and another one drawn.
    """

    def __init__(self, subjects: list[Subject], config: TrainConfig, answers: Answers | None = None) -> None:
        """With ``answers`` (stage encoder) every example has something to be said of it."""
        self.subjects = subjects
        self.config = config
        self.answers = answers
        weights = np.array([2.0 if subject.name in config.emphasis else 1.0 for subject in subjects])
        self.weights = weights / weights.sum()

    def __len__(self) -> int:
        return self.config.max_steps * self.config.batch

    def __getitem__(self, number: int) -> Example:
        draw = np.random.default_rng([self.config.seed, 0, number])
        plan = self.plan(number // self.config.batch) if self.config.batch > 1 else None
        for _ in range(MOST_BAD if self.config.skip_bad else 0):
            try:
                return self._drawn(draw, plan)
            except DataError as problem:
                logging.getLogger(__name__).warning("example %d is drawn again: %s", number, problem)
        return self._drawn(draw, plan)

    def plan(self, step: int) -> Plan:
        """Drawn by seed and step alone."""
        config, draw = self.config, np.random.default_rng([self.config.seed, 2, step])
        first = self.subjects[int(draw.choice(len(self.subjects), p=self.weights))].entry
        kind = draw_kind(config.masks, draw)
        if first.is_scan:
            alike = [n for n, s in enumerate(self.subjects) if _bucket(s.entry) == _bucket(first)]
            return Plan(tuple(alike), kind, None)
        largest = LARGEST_2D if kind in PLANAR else config.largest
        ny, nx = (int(draw.integers(min(SMALLEST, largest) // 2, largest // 2 + 1)) * 2 for _ in range(2))
        return Plan(tuple(n for n, s in enumerate(self.subjects) if not s.entry.is_scan), kind, (ny, nx))

    def _drawn(self, draw: np.random.Generator, plan: Plan | None) -> Example:
        allowed = np.arange(len(self.subjects)) if plan is None else np.array(plan.subjects)
        weights = self.weights[allowed]
        subject = self.subjects[int(draw.choice(allowed, p=weights / weights.sum()))]
        return make_example(subject, draw, self.config, plan=plan, answers=self.answers)


def _bucket(entry: Entry) -> tuple[tuple[int, ...], tuple[int, int]]:
    """Scans that share it have slices of one size, before and after the crop."""
    return entry.shape[2:], entry.crop


def draw_kind(recipe: MaskRecipe, draw: np.random.Generator) -> str:
    return str(draw.choice(recipe.kinds, p=recipe.kind_weights))


def make_example(
    subject: Subject,
    draw: np.random.Generator,
    config: TrainConfig,
    whole: bool = False,
    plan: Plan | None = None,
    answers: Answers | None = None,
) -> Example:
    """Draw a slice and a sampling, measure, and keep a strip of rows (all of them with ``whole``, a 2-D mask, or words
    to be said of the slice).
    """
    recipe = config.masks
    kind = draw_kind(recipe, draw) if plan is None else plan.kind
    largest, matrix = LARGEST_2D if kind in PLANAR else config.largest, None if plan is None else plan.matrix
    full = subject.measure(draw, largest, matrix, lesions=answers is not None)
    mask = apply_within(draw_mask(recipe, kind, full.shape[1:], draw), full.acquired)
    if mask.ndim == 1:
        problem, target, rows = _strip(full, mask, None if whole or answers is not None else config.rows, draw)
    else:
        problem, target, rows = *_plane(full, mask), slice(None)
    if full.noise_energy is not None:
        problem = replace(problem, noise=full.noise_energy / problem.scale**2)
    data_range = float(target.max())
    known = Known(
        name=subject.name,
        slice=full.number,
        simulated=not subject.entry.is_scan,
        mask=kind,
        acceleration=float(np.broadcast_to(full.acquired, mask.shape).sum() / mask.sum()),
        coils=full.shape[0],
        snr=float(target[target > OBJECT * data_range].mean()) / (problem.sigma / math.sqrt(2) + TINY),
        matrix=(target.shape[0], target.shape[1]),
        lesions=full.lesions,
    )
    exchange = None if answers is None else answers.of(known, draw)
    return Example(problem, target[rows].contiguous(), data_range, known, exchange)


def _strip(
    full: FullSlice, mask: np.ndarray, height: int | None, draw: np.random.Generator
) -> tuple[SliceProblem, Tensor, slice]:
    """The problem of some rows (None: of all), the whole target on the problem's scale, and which rows."""
    hybrid = full.hybrid()
    target = torch.from_numpy(np.array(hybrid.target))
    rows = slice(None) if height is None else draw_rows(target, height, draw)
    problem = prepare_hybrid(hybrid, mask, rows)
    return problem, target * (math.ldexp(1.0, hybrid.exponent) / problem.scale), rows


def _plane(full: FullSlice, mask: np.ndarray) -> tuple[SliceProblem, Tensor]:
    """The problem of a mask of the whole plane, and its target."""
    kspace = full.kspace()
    problem = prepare_slice(kspace, mask, full.crop)
    complete = torch.from_numpy(np.where(full.acquired, kspace, np.complex64(0))) / problem.scale
    return problem, centre_crop(rss(ifft2c(complete)), problem.crop)


def draw_mask(recipe: MaskRecipe, kind: str, shape: tuple[int, ...], draw: np.random.Generator) -> np.ndarray:
    """A sampling of the recipe: bool ``[nx]`` or ``[ny nx]``; of a small matrix one of the lower accelerations, which
    leave samples beside the calibration region.

    Raises: ScanError for a matrix too small for any of them.
    """
    acceleration = int(draw.choice(_within(recipe.accelerations, kind, shape)))
    fraction = min(recipe.calibration / acceleration * float(draw.uniform(0.75, 1.25)), 0.5 / acceleration)
    fraction = max(fraction, BLOCK / min(shape)) if kind in PLANAR else max(fraction, LINES / shape[1])
    return make_mask(kind, (shape[0], shape[1]), acceleration, fraction, int(draw.integers(2**31)))


def _within(accelerations: tuple[int, ...], kind: str, shape: tuple[int, ...]) -> list[int]:
    """Those at which the smallest calibration region takes at most three quarters of the samples."""
    share = (BLOCK / min(shape)) ** 2 if kind in PLANAR else LINES / shape[1]
    found = [each for each in accelerations if share <= 0.75 / each]
    if not found:
        raise ScanError(
            f"a matrix of {shape[0]}x{shape[1]} is too small for {kind} at {min(accelerations)}x and more; "
            "leave the scan out, or train with lower accelerations"
        )
    return found


def draw_rows(target: Tensor, height: int, draw: np.random.Generator) -> slice:
    """A strip of so many rows (all, of a picture with no more), where the target is bright more often than not."""
    ny = target.shape[0]
    if ny <= height:
        return slice(None)
    content = target.mean(1).numpy()
    middle = int(draw.choice(ny, p=content / content.sum()))
    top = int(np.clip(middle - height // 2, 0, ny - height))
    return slice(top, top + height)
