"""The classical methods that every result is compared with: CG-SENSE and L1-wavelet. Zero-filled is in problem.py.

They are the yardstick. Their constants are the best of benchmarks/tune_baselines.py, on k-space simulated from
training subjects (benchmarks/results/tune_baselines.md); all are free of the data's scale.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from nirvana_mri.errors import UsageError
from nirvana_mri.physics.consistency import conjugate_gradient
from nirvana_mri.physics.fourier import fft2c, ifft2c
from nirvana_mri.physics.sense import SenseOperator
from nirvana_mri.recon.problem import SliceProblem
from nirvana_mri.recon.spectrum import expected_energy
from nirvana_mri.recon.support import faded
from nirvana_mri.recon.wavelet import shrink


def _check(model: float, noise: float, fading: float, steps: int) -> None:
    if not (0 <= model < math.inf and 0 <= noise < math.inf and 0 <= fading < math.inf and steps >= 1):
        raise UsageError(
            f"weights {model:g}, {noise:g}, fading {fading:g}, {steps} steps; expected 0 or more, and at least a step"
        )


@dataclass(frozen=True)
class SenseSettings:
    """Weight of the quadratic prior: ``model``, for what the maps cannot explain, plus ``noise`` times the noise energy
    over the energy that is expected at that place of k-space.

    ``fading`` is the power of the maps' certainty by which they fade outside the object (see :func:`faded`).
    """

    model: float = 0.0005
    noise: float = 0.4
    fading: float = 8
    steps: int = 25

    def __post_init__(self) -> None:
        _check(self.model, self.noise, self.fading, self.steps)


@dataclass(frozen=True)
class WaveletSettings:
    """Threshold of an orthonormal wavelet coefficient: ``model`` times the signal's magnitude plus ``noise`` times σ.

    ``coarser`` multiplies it from each level to the next coarser one, where fewer coefficients are zero.
    """

    model: float = 0.0005
    noise: float = 0.2
    coarser: float = 0.35
    fading: float = 8
    levels: int = 3
    steps: int = 80

    def __post_init__(self) -> None:
        _check(self.model, self.noise, self.fading, self.steps)


SENSE = SenseSettings()
WAVELET = WaveletSettings()


def cg_sense(problem: SliceProblem, settings: SenseSettings = SENSE) -> Complex[Tensor, "ny nx"]:
    """Least squares through the coil maps with a quadratic prior, by conjugate gradients (Pruessmann 2001).

    The prior is Wiener's: fine detail, of which a picture has less, is trusted less where noise or folding can be taken
    for it. On a real head that is worth 2 dB more than one weight for all.
    """
    operator, inside = _prepared(problem, settings.fading)
    adjoint = operator.adjoint(problem.data.to(operator.maps))
    # Above 1 a weight changes nothing but the number of steps.
    weight = (settings.model + settings.noise * problem.sigma**2 / expected_energy(problem)).clamp_max(1)

    def system(x: Tensor) -> Tensor:
        return operator.normal(x) + ifft2c(weight * fft2c(x))

    x = conjugate_gradient(system, adjoint, torch.zeros_like(adjoint), settings.steps)
    return (x * inside).to(problem.data)


def l1_wavelet(problem: SliceProblem, settings: WaveletSettings = WAVELET) -> Complex[Tensor, "ny nx"]:
    """Compressed sensing (Lustig 2007): least squares, sparse in translation-invariant wavelets.

    FISTA (Beck 2009) in its form for tight frames (Liu 2016, pFISTA). The step is 1: with unit-norm maps the normal
    operator's norm is at most 1.
    """
    operator, inside = _prepared(problem, settings.fading)
    adjoint = operator.adjoint(problem.data.to(operator.maps))
    threshold = settings.model * math.sqrt(_signal_energy(adjoint)) + settings.noise * problem.sigma
    # An undecimated coefficient is 1 / 2^level of the orthonormal one.
    thresholds = [threshold / 2 * (settings.coarser / 2) ** level for level in range(settings.levels)]
    x = previous = torch.zeros_like(adjoint)
    momentum = 1.0
    for _ in range(settings.steps):
        following = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        ahead = x + (momentum - 1) / following * (x - previous)
        momentum, previous = following, x
        descended = ahead - operator.normal(ahead) + adjoint
        x = shrink(descended, thresholds)
    return (x * inside).to(problem.data)


def _prepared(problem: SliceProblem, fading: float) -> tuple[SenseOperator, Float[Tensor, "ny nx"]]:
    """The operator with faded maps, in double precision, and the fading.

    Iterations that are stopped before they converge carry each rounding of the input on: in single precision to more
    than 1e-5 of the picture, so that a scan and its multiple would differ.
    """
    operator, inside = faded(problem, fading)
    return SenseOperator(operator.maps.to(torch.complex128), operator.mask), inside


def _signal_energy(image: Complex[Tensor, "ny nx"]) -> float:
    """Energy of a pixel of the object: the mean over pixels, weighted by their energy, so that air does not count."""
    energy = image.abs().square()
    total = float(energy.sum())
    return float(energy.square().sum()) / total if total else 0.0
