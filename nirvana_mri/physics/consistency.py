"""Data consistency: what was measured stays as it was measured."""

from collections.abc import Callable

import torch
from jaxtyping import Complex
from torch import Tensor

from nirvana_mri.physics.sense import SenseOperator


def hard_consistency(
    predicted: Complex[Tensor, "*batch coil ny nx"],
    measured: Complex[Tensor, "*batch coil ny nx"],
    operator: SenseOperator,
) -> Complex[Tensor, "*batch coil ny nx"]:
    """Coil data with the measured samples put back, bit for bit."""
    return torch.where(operator.mask, measured, predicted)


def weighted_consistency(
    image: Complex[Tensor, "ny nx"],
    measured_adjoint: Complex[Tensor, "ny nx"],
    operator: SenseOperator,
    prior_weight: float | Tensor,
    steps: int,
) -> Complex[Tensor, "ny nx"]:
    """The image nearest to both the data and a prior image: argmin ‖Ax − y‖² + λ ‖x − image‖².

    ``measured_adjoint`` is Aᴴy and ``prior_weight`` is λ > 0. Solved by ``steps`` conjugate gradients started at the
    prior image (Aggarwal 2019, MoDL, eq. 9); differentiable in the image and in λ.
    """

    def system(x: Tensor) -> Tensor:
        return operator.normal(x) + prior_weight * x

    return conjugate_gradient(system, measured_adjoint + prior_weight * image, image, steps)


def conjugate_gradient(
    system: Callable[[Tensor], Tensor], right: Tensor, start: Tensor, steps: int, tolerance: float = 0.0
) -> Tensor:
    """Solve ``system(x) = right`` for a Hermitian positive system by at most ``steps`` conjugate gradients.

    Stops early, when ``tolerance`` is above zero, at a residual of that share of the right side's norm. A residual
    below rounding takes no further step: what is left of it is noise, and the gradient of a ratio of such noise is not
    finite.
    """
    x = start
    residual = right - system(x)
    direction = residual
    energy, wanted = _energy(residual), _energy(right)
    goal = tolerance**2 * float(wanted) if tolerance else 0.0
    rounding = torch.finfo(wanted.dtype).eps ** 2 * wanted.detach()
    for _ in range(steps):
        if tolerance and float(energy) <= goal:
            break
        pushed = system(direction)
        curvature = (direction.conj() * pushed).real.sum()
        step = _ratio(energy, curvature, energy <= rounding)
        x = x + step * direction
        residual = residual - step * pushed
        previous, energy = energy, _energy(residual)
        direction = residual + _ratio(energy, previous, previous <= rounding) * direction
    return x


def _energy(x: Tensor) -> Tensor:
    return torch.view_as_real(x).square().sum()


def _ratio(numerator: Tensor, denominator: Tensor, solved: Tensor) -> Tensor:
    """0 where the system is solved, without a gradient."""
    solved = solved | (denominator <= 0)
    return torch.where(
        solved, torch.zeros_like(numerator), numerator / torch.where(solved, torch.ones_like(denominator), denominator)
    )
