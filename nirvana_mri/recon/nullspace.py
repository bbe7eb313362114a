"""Null space: what of a picture the measured samples determine, and what the method added."""

from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from nirvana_mri.physics.consistency import conjugate_gradient
from nirvana_mri.recon.problem import SliceProblem

STEPS = 60  # conjugate gradients, at most
TOLERANCE = 1e-4  # share of the right side at which they stop
FAINTEST, LOUDEST = 1e-4, 1e-2  # bounds of the noise's share of the signal's energy
QUIET = 0.5  # share of the picture's level that keeps the map quiet where there is no signal


@dataclass(frozen=True, eq=False)
class NullSpace:
    """A picture's two parts, ``measured`` + ``invented``, complex ``[ny nx]``; ``share`` ``[ny nx]`` is |invented| /
    (|x| + half of the picture's level, Σ|x|² / Σ|x|); ``fraction`` is ‖invented‖² / ‖x‖².
    """

    measured: Complex[Tensor, "ny nx"]
    invented: Complex[Tensor, "ny nx"]
    share: Float[Tensor, "ny nx"]
    fraction: float


def null_space(problem: SliceProblem, image: Complex[Tensor, "ny nx"]) -> NullSpace:
    """What of ``image`` lies in the row space of the measurement A (sampling and coils), and what does not.

    Measured is (AᴴA + λ)⁻¹ AᴴA x, the projection on what A sees, where a direction counts as seen as far as its share
    of measured energy exceeds λ, the noise's share of the signal's energy: a linear map, whatever the image. A method
    that adds nothing of its own, such as zero filling, leaves nothing invented; what a method invents may be right or
    wrong.
    """
    operator = problem.operator
    image = image.to(operator.maps)
    size = image.abs()
    energy = float(size.square().sum())
    if energy == 0:
        return NullSpace(image, torch.zeros_like(image), torch.zeros_like(size), 0.0)
    weight = _noise_share(problem)

    def system(x: Tensor) -> Tensor:
        return operator.normal(x) + weight * x

    seen = operator.normal(image)
    measured = conjugate_gradient(system, seen, torch.zeros_like(image), STEPS, TOLERANCE)
    invented = image - measured
    level = energy / float(size.sum())
    share = invented.abs() / (size + QUIET * level)
    return NullSpace(measured, invented, share, float(invented.abs().square().sum()) / energy)


def _noise_share(problem: SliceProblem) -> float:
    """Noise energy of a pixel over that of the signal: the mean over pixels, weighted by energy, so that air does not
    count.
    """
    energy = problem.operator.adjoint(problem.data).abs().square()
    of_signal = float(energy.square().sum()) / max(float(energy.sum()), 1e-30)
    return min(max(problem.sigma**2 / of_signal, FAINTEST), LOUDEST) if of_signal else LOUDEST
