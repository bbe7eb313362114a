"""Training examples: a slice, a mask, a target; a function of the seed and the step alone, so that resuming repeats
nothing.
"""

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from nirvana_mri.errors import DataError
from nirvana_mri.io.nifti import read_image_volume
from nirvana_mri.physics.coils import rss
from nirvana_mri.physics.fourier import ifft2c
from nirvana_mri.physics.masks import make_mask
from nirvana_mri.physics.sampling import apply_within
from nirvana_mri.physics.sense import SenseOperator
from nirvana_mri.physics.simulate import Simulation, simulate_slice
from nirvana_mri.recon.open import open_scan
from nirvana_mri.recon.problem import SliceProblem, centre_crop, prepare_slice
from nirvana_mri.scan import Scan
from nirvana_mri.train.augment import SMALLEST, vary_picture
from nirvana_mri.train.config import MaskRecipe, TrainConfig
from nirvana_mri.train.exchange import Answers, Exchange, Known
from nirvana_mri.train.index import Entry, Index
from nirvana_mri.train.lesions import Lesion, insert_lesions

SCANS_KEPT, PICTURES_KEPT = 4096, 32  # opened files that a process keeps; pictures stay in memory
PLANAR = ("poisson",)  # masks of the whole plane, which leave no hybrid space to cut strips from
OBJECT = 0.1  # of the brightest pixel: what lies above counts as the object
TINY = 1e-12
MOST_BAD = 20  # slices in a row that cannot be read, before that is an error
LEAST_SIGNAL = 0.25  # a slice whose mean is below this share of the volume's best slice is mostly air
SIMULATED_COILS = (1, 2, 4, 6, 8, 8, 10, 12, 16)
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
class Subject:
    """One file of the index; what it holds is read when it is asked for."""

    path: Path
    entry: Entry

    @property
    def name(self) -> str:
        return self.entry.name

    def measure(
        self, draw: np.random.Generator, largest: int, matrix: tuple[int, int] | None = None, lesions: bool = False
    ) -> "FullSlice":
        """One fully sampled slice; of pictures, a varied one (of that matrix, if it can be; with lesions of ours if
        wanted) seen by coils that never were.
        """
        if self.entry.is_scan:
            scan = _scan(self.path)
            number = int(draw.integers(scan.shape[0]))
            return FullSlice(scan.kspace[number], scan.acquired, scan.crop, number)
        image = vary_picture(pick_slice(_pictures(self.path), self.entry.isotropic, draw), draw, largest, matrix)
        image, inserted = insert_lesions(image, draw) if lesions else (image, ())
        coils = int(draw.choice(SIMULATED_COILS))
        noise = float(np.exp(draw.uniform(np.log(0.002), np.log(0.035))))
        settings = Simulation(coils, noise, float(draw.uniform(0, 6)), int(draw.integers(2**31)))
        peak = float(image.abs().max()) if inserted else 1.0
        kspace = simulate_slice(image, settings, index=int(draw.integers(8)), slices=8, peak=peak).numpy()
        acquired = np.ones(kspace.shape[-1], dtype=bool)
        crop = (kspace.shape[1], kspace.shape[2])
        return FullSlice(kspace, acquired, crop, noise_energy=coils * (noise * peak) ** 2, lesions=inserted)


@lru_cache(maxsize=SCANS_KEPT)
def _scan(path: Path) -> Scan:
    """An opened scan: a few kilobytes, its k-space still in the file."""
    return open_scan(path)


@lru_cache(maxsize=PICTURES_KEPT)
def _pictures(path: Path) -> np.ndarray:
    """All of a volume of pictures, float32 ``[slice ny nx]``."""
    return np.abs(read_image_volume(path)[0]).astype(np.float32)


@dataclass(frozen=True, eq=False)
class FullSlice:
    """k-space complex64 ``[coil ny nx]``, what of it was acquired, the crop of the picture; of a scan its number, of
    what is simulated the noise energy and the lesions put in.

    A simulated picture brings its own noise, which an estimate from k-space would take for the coils'.
    """

    kspace: np.ndarray
    acquired: np.ndarray
    crop: tuple[int, int]
    number: int | None = None
    noise_energy: float | None = None
    lesions: tuple[Lesion, ...] = ()


def pick_slice(pictures: np.ndarray, isotropic: bool, draw: np.random.Generator) -> np.ndarray:
    """One slice with something in it; of isotropic volumes two in five are cut across another axis."""
    axis = int(draw.choice([0, 1, 2], p=[0.6, 0.2, 0.2])) if isotropic else 0
    content = pictures.mean(axis=tuple(other for other in range(3) if other != axis))
    return np.take(pictures, int(draw.choice(np.flatnonzero(content >= LEAST_SIGNAL * content.max()))), axis)


def subjects_of(index: Index, names: Iterable[str]) -> list[Subject]:
    """The subjects of these names, in the index's order."""
    wanted = set(names)
    return [Subject(index.folder / entry.file, entry) for entry in index.entries if entry.name in wanted]


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
        kind = _draw_kind(config.masks, draw)
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


def _draw_kind(recipe: MaskRecipe, draw: np.random.Generator) -> str:
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
    kind = _draw_kind(recipe, draw) if plan is None else plan.kind
    planar = kind in PLANAR
    largest, matrix = LARGEST_2D if planar else config.largest, None if plan is None else plan.matrix
    full = subject.measure(draw, largest, matrix, lesions=answers is not None)
    mask = apply_within(draw_mask(recipe, kind, full.kspace.shape[-2:], draw), full.acquired)
    problem = prepare_slice(full.kspace, mask, full.crop)
    if full.noise_energy is not None:
        problem = replace(problem, noise=full.noise_energy / problem.scale**2)
    complete = torch.from_numpy(np.where(full.acquired, full.kspace, 0).astype(np.complex64)) / problem.scale
    target = centre_crop(rss(ifft2c(complete)), problem.crop)
    data_range = float(target.max())
    known = Known(
        name=subject.name,
        slice=full.number,
        simulated=not subject.entry.is_scan,
        mask=kind,
        acceleration=float(np.broadcast_to(full.acquired, mask.shape).sum() / mask.sum()),
        coils=full.kspace.shape[0],
        snr=float(target[target > OBJECT * data_range].mean()) / (problem.sigma / math.sqrt(2) + TINY),
        matrix=(target.shape[0], target.shape[1]),
        lesions=full.lesions,
    )
    if answers is not None:
        return Example(problem, target, data_range, known, answers.of(known, draw))
    if not (whole or planar):
        problem, target = cut_rows(problem, target, config.rows, draw)
    return Example(problem, target, data_range, known)


def draw_mask(recipe: MaskRecipe, kind: str, shape: tuple[int, ...], draw: np.random.Generator) -> np.ndarray:
    """A sampling of the recipe: bool ``[nx]`` or ``[ny nx]``."""
    acceleration = int(draw.choice(recipe.accelerations))
    fraction = min(recipe.calibration / acceleration * float(draw.uniform(0.75, 1.25)), 0.5 / acceleration)
    fraction = max(fraction, 12 / min(shape)) if kind in PLANAR else max(fraction, 6 / shape[1])
    return make_mask(kind, (shape[0], shape[1]), acceleration, fraction, int(draw.integers(2**31)))


def cut_rows(
    problem: SliceProblem, target: Tensor, rows: int, draw: np.random.Generator
) -> tuple[SliceProblem, Tensor]:
    """A strip of hybrid-space rows: each row is a problem of its own, so nothing is approximated."""
    ny = target.shape[0]
    if ny <= rows:
        return problem, target
    content = target.mean(1).numpy()
    middle = int(draw.choice(ny, p=content / content.sum()))
    keep = slice(top := int(np.clip(middle - rows // 2, 0, ny - rows)), top + rows)
    operator = SenseOperator(problem.operator.maps[:, keep].contiguous(), problem.operator.mask)
    strip = replace(
        problem,
        data=problem.data[:, keep].contiguous(),
        operator=operator,
        certainty=problem.certainty[keep].contiguous(),
        crop=(rows, problem.crop[1]),
    )
    return strip, target[keep].contiguous()
