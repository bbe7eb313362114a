"""Prewhitening: unit noise that coils do not share, whatever the scale, and no picture out of nothing."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nirvana_mri.errors import DataError
from nirvana_mri.physics.prewhiten import noise_covariance, whiten, whitening_matrix


def coloured(coils: int, samples: int, seed: int = 0, dtype: torch.dtype = torch.complex64) -> torch.Tensor:
    """Noise that the coils share, with levels that span a decade."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(coils, coils, generator=generator, dtype=torch.complex128)
    mixing = mixing * 0.4 + torch.diag(torch.logspace(-0.5, 0.5, coils, dtype=torch.float64)).to(mixing)
    return (mixing @ torch.randn(coils, samples, generator=generator, dtype=torch.complex128)).to(dtype)


@given(coils=st.integers(1, 12), seed=st.integers(0, 1000), scale=st.sampled_from([1e-12, 1e-4, 1.0, 1e6]))
def test_whitened_noise_has_unit_covariance(coils: int, seed: int, scale: float) -> None:
    noise = coloured(coils, 50 * coils, seed) * scale
    white = whiten(noise, whitening_matrix(noise))
    covariance = noise_covariance(white)
    assert torch.allclose(covariance, torch.eye(coils, dtype=covariance.dtype), atol=2e-5)


@given(coils=st.integers(1, 8), seed=st.integers(0, 1000), scale=st.floats(1e-9, 1e9))
def test_a_scale_of_the_noise_comes_back_as_its_inverse(coils: int, seed: int, scale: float) -> None:
    noise = coloured(coils, 40 * coils, seed, torch.complex128)
    one, other = whitening_matrix(noise), whitening_matrix(noise * scale)
    assert torch.allclose(other * scale, one, rtol=1e-9, atol=1e-12 * float(one.abs().max()))


def test_one_loud_coil_costs_the_others_no_digits() -> None:
    noise = coloured(6, 2000) * torch.tensor([1e-10, 1, 1, 1, 1, 1e10])[:, None]
    covariance = noise_covariance(whiten(noise.to(torch.complex128), whitening_matrix(noise.to(torch.complex128))))
    assert torch.allclose(covariance, torch.eye(6, dtype=covariance.dtype), atol=1e-9)


def test_the_matrix_is_lower_triangular_with_a_positive_diagonal() -> None:
    matrix = whitening_matrix(coloured(5, 500))
    assert torch.equal(matrix, matrix.tril())
    assert (matrix.diagonal().real > 0).all()
    assert matrix.diagonal().imag.abs().max() == 0


def test_fresh_noise_of_the_same_coils_is_white_too() -> None:
    noise = coloured(4, 40_000)
    matrix = whitening_matrix(noise[:, :20_000])
    fresh = noise_covariance(whiten(noise[:, 20_000:], matrix))
    assert torch.allclose(fresh, torch.eye(4, dtype=fresh.dtype), atol=0.05)


def test_any_shape_is_mixed_over_its_coils() -> None:
    matrix = whitening_matrix(coloured(3, 300))
    kspace = torch.randn(3, 5, 7, dtype=torch.complex64)
    expected = np.einsum("ab,byx->ayx", matrix.numpy(), kspace.numpy())
    assert np.allclose(whiten(kspace, matrix).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda noise: noise[:, :2], "2 noise samples for 3 coils"),
        (lambda noise: noise * torch.tensor([1, float("nan"), 1])[:, None], "NaN"),
        (lambda noise: noise * torch.tensor([1, 0, 1])[:, None], "coil 1 has no noise"),
        (lambda noise: noise[[0, 1, 0]], "mixture of the others"),
    ],
)
def test_noise_that_cannot_whiten_is_refused(spoil, match: str) -> None:
    with pytest.raises(DataError, match=match):
        whitening_matrix(spoil(coloured(3, 300)))
