"""The strength dial: from a classical answer to a network's, by way of pictures that fit the data ever as well."""

import math
from dataclasses import dataclass

from jaxtyping import Complex
from torch import Tensor

from nirvana_mri.errors import UsageError
from nirvana_mri.recon.problem import SliceProblem
from nirvana_mri.recon.split import misfit


@dataclass(frozen=True, eq=False)
class Dial:
    """``at(0)`` is the classical answer, ``at(1)`` the network's, both bit for bit; nothing is solved in between.

    The squared distance to the measured samples goes in a straight line from one end to the other. A plain blend would
    lie below that line, since errors of two answers average out; it is moved along ``aside``, the common gradient of
    that distance at both ends, by just as much as it takes. ``squares`` are ‖r₀‖², Re⟨r₀,r₁⟩, ‖r₁‖² of the residuals r
    at the ends, ‖A aside‖² and Re⟨aside, Aᴴr⟩ at either end.
    """

    prior: Complex[Tensor, "ny nx"]
    classical: Complex[Tensor, "ny nx"]
    aside: Complex[Tensor, "ny nx"]
    squares: tuple[float, float, float, float, float, float]

    @classmethod
    def between(cls, prior: Tensor, classical: Tensor, problem: SliceProblem) -> "Dial":
        """The dial between two complex images ``[ny nx]`` of one problem."""
        mask = problem.operator.mask
        start, end = (misfit(image, problem, mask)[0] for image in (classical, prior))
        gradients = [problem.operator.adjoint(wrong) for wrong in (start, end)]
        sizes = [float(gradient.norm()) for gradient in gradients]
        aside = sum((g / size for g, size in zip(gradients, sizes, strict=True) if size), start=0 * prior)
        moved = problem.operator.forward(aside)
        squares = (
            _product(start, start),
            _product(start, end),
            _product(end, end),
            _product(moved, moved),
            _product(aside, gradients[0]),
            _product(aside, gradients[1]),
        )
        return cls(prior, classical, aside, squares)

    def at(self, strength: float) -> Complex[Tensor, "ny nx"]:
        """The image at a strength from 0 (classical) to 1 (network). Raises: UsageError for any other."""
        check_strength(strength)
        if strength in (0, 1):
            return self.prior if strength else self.classical
        blend = self.classical + strength * (self.prior - self.classical)
        return blend + self._push(strength) * self.aside

    def _push(self, s: float) -> float:
        """How far aside: the root h ≥ 0 of ‖r(s) + h A aside‖² = (1 − s)‖r₀‖² + s‖r₁‖²."""
        first, both, last, steep, left, right = self.squares
        short = s * (1 - s) * (first - 2 * both + last)  # how far the blend lies below the line
        slope = (1 - s) * left + s * right
        if steep <= 0 or short <= 0:
            return 0.0
        slope = max(slope, 0.0)
        return short / (slope + math.sqrt(slope**2 + steep * short))


def check_strength(strength: float) -> None:
    """UsageError for what is no strength."""
    if not 0 <= strength <= 1:
        raise UsageError(f"strength is {strength:g}; expected 0 (classical) to 1 (network)")


def _product(one: Tensor, other: Tensor) -> float:
    """Re⟨one, other⟩, summed in double precision."""
    return float((one.conj() * other).real.double().sum())
