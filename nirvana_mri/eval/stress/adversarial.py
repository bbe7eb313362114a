"""The small change of the data that changes the picture most, by projected gradient ascent."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Complex
from torch import Tensor

from nirvana_mri.eval.stress.bench import Bench, Level, Measured, Values, scores
from nirvana_mri.eval.stress.case import Sampled
from nirvana_mri.eval.stress.criterion import Criterion, Limits
from nirvana_mri.eval.stress.methods import NIRVANA, SENSE, Solver, problem_of
from nirvana_mri.eval.stress.noise import white_noise
from nirvana_mri.eval.stress.stress import Stress
from nirvana_mri.physics.coils import compress, compression_matrix
from nirvana_mri.physics.fourier import fft1c, ifft1c
from nirvana_mri.physics.sampling import calibration_region
from nirvana_mri.recon.problem import CALIBRATION_ENERGY, MOST_VIRTUAL_COILS, central

STEPS = 10
KEY = "amplification"


def noise_norm(sampled: Sampled) -> float:
    """The expected 2-norm of the noise in all measured samples."""
    lines = torch.from_numpy(sampled.mask).expand(sampled.kspace.shape)
    return sampled.noise * math.sqrt(int(lines.sum()))


def worst_change(
    sampled: Sampled, solver: Solver, radius: float, start: Complex[Tensor, "coil ny nx"], steps: int = STEPS
) -> Complex[Tensor, "coil ny nx"]:
    """A change of the measured samples, of 2-norm ``radius`` at most, by which the solver's image changes most.

    Projected gradient ascent (Madry 2018) on ‖f(y + δ) − f(y)‖² from ``start``, the best of all steps. Coil maps, coil
    compression and the noise level are held as the unperturbed data gave them; the change found is then for the whole
    reconstruction to bear. Zero where nothing was measured.
    """
    problem = problem_of(sampled.kspace, sampled.mask)
    matrix = _compression(sampled)
    sample, hybrid = problem.operator.sample, problem.operator.hybrid
    limit = radius / problem.scale
    with torch.no_grad():
        clean = solver(problem)

    def ball(change: Tensor) -> Tensor:
        return change * (limit / change.norm().clamp_min(1e-30)).clamp_max(1)

    def pushed(change: Tensor) -> Tensor:
        return (solver(replace(problem, data=problem.data + sample(change))) - clean).abs().square().sum()

    first = compress(start / problem.scale, matrix)
    delta = ball(sample(ifft1c(first, dim=-2) if hybrid else first))
    best = ascend(pushed, ball, delta, 2.5 * limit / steps, steps)
    spread = compress(best, matrix.mH.resolve_conj()) * problem.scale  # rows are orthonormal: the norm is kept
    spread = fft1c(spread, dim=-2) if hybrid else spread
    return torch.where(torch.from_numpy(sampled.mask), spread, torch.zeros((), dtype=spread.dtype))


def ascend(
    height: Callable[[Tensor], Tensor], ball: Callable[[Tensor], Tensor], start: Tensor, step: float, steps: int
) -> Tensor:
    """The highest place that normalised gradient steps find from ``start``, each put back into the ball."""
    place, best, highest = start, start, -math.inf
    for turn in range(steps + 1):
        place = place.detach().requires_grad_(turn < steps)
        value = height(place)
        if float(value.detach()) > highest:
            best, highest = place.detach(), float(value.detach())
        if turn < steps:
            (gradient,) = torch.autograd.grad(value, place)
            # The logarithm of a sample that is exactly zero has no slope.
            gradient = torch.where(gradient.isfinite(), gradient, torch.zeros((), dtype=gradient.dtype))
            place = ball(place.detach() + step * gradient / gradient.norm().clamp_min(1e-30))
    return best


def _compression(sampled: Sampled) -> Complex[Tensor, "virtual coil"]:
    """How ``prepare_slice`` mixes the coils of this slice."""
    rows, columns = calibration_region(sampled.mask)
    return compression_matrix(central(sampled.kspace[:, rows, columns]), CALIBRATION_ENERGY, MOST_VIRTUAL_COILS)


def attacked(bench: Bench, level: Level, draw: np.random.Generator) -> Measured:
    """Each method under the change that is worst for it, and under noise of the same norm; CG-SENSE under the model's
    worst change too.
    """
    sampled = bench.sampled
    radius = float(level) * noise_norm(sampled)  # type: ignore[arg-type]
    noise = white_noise(sampled, draw)
    noise = noise * (radius / noise.norm())
    changes = {name: worst_change(sampled, solver, radius, noise) for name, solver in bench.solvers.items()}
    values: Values = {}
    pictures: dict[str, Tensor] = {}
    for name in bench.methods:
        own = changes.get(name, changes[NIRVANA])
        figures, pictures[name] = _under(bench, name, own)
        by_noise, _ = _under(bench, name, noise)
        values[name] = figures | {f"noise_{key}": by_noise[key] for key in ("ssim", KEY)}
    transferred, _ = _under(bench, SENSE, changes[NIRVANA])
    values[SENSE] |= {f"transferred_{key}": transferred[key] for key in ("ssim", KEY)}
    details = {"share_of_measured_norm": radius / float(sampled.measured.norm())}
    return bench.measured(values, details, sampled.target, pictures)


def _under(bench: Bench, name: str, change: Tensor) -> tuple[dict[str, Any], Tensor]:
    """The scores of the whole reconstruction under a change, and the change of the picture over that of the data."""
    sampled = bench.sampled
    picture = bench.methods[name](sampled.measured + change, sampled.mask).picture(sampled.crop)
    moved = float((picture - bench.baseline_pictures[name]).norm() / change.norm())
    return scores(sampled.target, picture) | {KEY: moved}, picture


def _margin(values: Values, change: Values, limits: Limits) -> float:
    return float(limits["times"] * values[SENSE][KEY] - values[NIRVANA][KEY])


ADVERSARIAL = Stress(
    title="The worst small change of the data",
    about="Of all changes of the measured samples with a given norm, projected gradient ascent looks for the one by "
    "which the picture changes most: one for the model, one for CG-SENSE. Beside them stands noise of the same norm, "
    "and CG-SENSE under the model's worst change. The amplification is the norm of the picture's change over that of "
    "the data. A level of 1 is the norm of the scan's own noise. What ascent finds is a lower bound: the worst change "
    "may be worse.",
    source="Antun et al. 2020, PNAS 117:30088; Darestani et al. 2021, ICML (classical methods are sensitive too); "
    "Madry et al. 2018, ICLR (projected gradient)",
    unit="x the noise's norm",
    levels=(0.25, 1.0),
    quick=(1.0,),
    criterion=Criterion(
        "amplification is at most 2 times that of CG-SENSE, each under its own worst change", {"times": 2.0}, _margin
    ),
    own=attacked,
    shows=("values", KEY, "amplification"),
)
