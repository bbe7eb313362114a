"""How much energy a picture is expected to have at each place of k-space."""

import torch
from jaxtyping import Float
from torch import Tensor

from nirvana_mri.physics.fourier import fft1c
from nirvana_mri.recon.problem import SliceProblem

DECAY = 3  # the power by which the energy of brain pictures falls with the spatial frequency: 2.6 to 3.5, one by one


def expected_energy(problem: SliceProblem) -> Float[Tensor, "ny nx"]:
    """Energy of the combined image at each place of its k-space, by a power law fitted to the measured samples.

    Zero frequency sits at n // 2. The law is the same in all directions; pixels are taken to be square. The lowest
    frequencies, whose energy is the object's brightness rather than its detail, take no part in the fit.
    """
    operator = problem.operator
    samples = fft1c(problem.data, dim=-2) if operator.hybrid else problem.data
    energy = torch.view_as_real(samples).square().sum(dim=(0, -1))
    frequency = _frequency(energy)
    law = (1 + frequency) ** -DECAY
    measured = operator.mask.expand(energy.shape)
    detail = measured & (frequency >= 2)
    used = detail if detail.any() else measured
    return law * (energy[used].sum() / law[used].sum())


def _frequency(like: Float[Tensor, "ny nx"]) -> Float[Tensor, "ny nx"]:
    """Spatial frequency in cycles per the picture's longer side."""
    ny, nx = like.shape
    y = (torch.arange(ny, device=like.device) - ny // 2) / ny
    x = (torch.arange(nx, device=like.device) - nx // 2) / nx
    return torch.hypot(y[:, None], x[None, :]).to(like) * max(ny, nx)
