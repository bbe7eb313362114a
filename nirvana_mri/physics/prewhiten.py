"""Prewhitening: mixing the coils so that their noise is white (Kellman & McVeigh 2005, doi 10.1002/mrm.20713)."""

import torch
from jaxtyping import Complex
from torch import Tensor

from nirvana_mri.errors import DataError

FAINTEST = 1e-7  # an eigenvalue of the coils' correlation below this is a coil that repeats others


def noise_covariance(noise: Complex[Tensor, "coil sample"]) -> Complex[Tensor, "coil coil"]:
    """Ψ = ⟨n nᴴ⟩ of noise samples, complex128: its diagonal is each coil's noise energy a sample.

    Raises: DataError for samples that are not finite, or fewer than coils.
    """
    coils, samples = noise.shape
    if samples < coils:
        raise DataError(f"{samples} noise samples for {coils} coils, expected more; measure noise for longer")
    if not bool(torch.isfinite(torch.view_as_real(noise.resolve_conj())).all()):
        raise DataError("the noise samples have NaN or Inf; leave the noise measurement out")
    precise = noise.to(torch.complex128)
    return precise @ precise.mH / samples


def whitening_matrix(noise: Complex[Tensor, "coil sample"]) -> Complex[Tensor, "coil coil"]:
    """W, with unit noise energy in every row of W n and none in common: W Ψ Wᴴ = 1.

    W = L⁻¹ of the Cholesky factor Ψ = L Lᴴ: lower triangular, with a positive diagonal. Each coil is brought to unit
    noise first, so that neither the scale of the samples nor that of one coil loses digits. In the precision of
    ``noise``, but for the step between. Raises: DataError where a coil has no noise or repeats others.
    """
    largest = _largest(noise)
    dead = torch.nonzero(largest == 0).flatten().tolist()
    if dead:
        raise DataError(f"coil {dead[0]} has no noise at all; leave the noise measurement out, or the coil")
    unit = noise.to(torch.complex128) / largest[:, None]
    covariance = noise_covariance(unit)
    level = covariance.diagonal().real.sqrt()
    correlation = covariance / (level[:, None] * level[None, :])
    if float(torch.linalg.eigvalsh(correlation)[0]) < FAINTEST:
        raise DataError("the noise of a coil is a mixture of the others'; leave the noise measurement out, or the coil")
    factor = torch.linalg.cholesky(correlation)
    identity = torch.eye(len(level), dtype=factor.dtype, device=factor.device)
    inverse = torch.linalg.solve_triangular(factor, identity, upper=False)
    return (inverse / (level * largest)[None, :]).to(noise.dtype)


def _largest(noise: Tensor) -> Tensor:
    """The largest magnitude of each coil, float64 ``[coil]``."""
    return noise.to(torch.complex128).abs().amax(dim=1)


def whiten(
    samples: Complex[Tensor, "coil *rest"], matrix: Complex[Tensor, "coil coil"]
) -> Complex[Tensor, "coil *rest"]:
    """The samples with their coils mixed by ``matrix``: k-space or images, of any shape."""
    return (matrix.to(samples.dtype) @ samples.reshape(len(samples), -1)).reshape(samples.shape)
