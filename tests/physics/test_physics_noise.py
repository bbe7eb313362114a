import numpy as np
import pytest
import torch

from nirvana_mri.physics.masks import make_mask
from nirvana_mri.physics.noise import noise_energy, noise_sigma
from nirvana_mri.physics.simulate import Simulation, simulate_slice


def white(coils=4, ny=64, nx=60, sigma=1.0):
    parts = torch.randn(coils, ny, nx, 2, generator=torch.Generator().manual_seed(0))
    return torch.view_as_complex(sigma * parts)


@pytest.mark.parametrize("coils", [1, 4, 16])
@pytest.mark.parametrize("sigma", [1e-6, 1.0])
@pytest.mark.parametrize("kind", ["equispaced_fraction", "poisson"])
def test_measures_white_noise(coils, sigma, kind):
    kspace = white(coils, sigma=sigma)
    mask = torch.from_numpy(make_mask(kind, (64, 60), 4, 0.08))
    energy = noise_energy(kspace, mask)
    assert noise_sigma(energy, coils) == pytest.approx(sigma, rel=0.25 / coils**0.5)


def test_does_not_look_at_what_was_not_measured():
    mask = torch.from_numpy(make_mask("random", (64, 60), 4))
    kspace = white()
    poisoned = torch.where(mask, kspace, torch.full_like(kspace, complex("nan")))
    assert noise_energy(poisoned, mask) == noise_energy(kspace, mask)


def test_zero_padding_is_not_silence():
    mask = torch.ones(60, dtype=torch.bool)
    padded = white()
    padded[..., :10] = padded[..., 50:] = 0
    assert noise_sigma(noise_energy(padded, mask), 4) == pytest.approx(1, rel=0.12)


def test_an_object_with_sharp_edges_is_hardly_taken_for_noise():
    """What it leaves in the corners counts as noise: an upper bound."""
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    picture = torch.from_numpy((y**2 + x**2 < 0.5) * (1 + 0.5 * np.sin(8 * x))).to(torch.complex64)
    kspace = simulate_slice(picture, Simulation(coils=6, noise=0.02, seed=1))
    sigma = noise_sigma(noise_energy(kspace, torch.ones(96, dtype=torch.bool)), 6)
    truth = 0.02 * float(picture.abs().max()) / 2**0.5
    assert 0.95 * truth < sigma < 1.4 * truth


def test_nothing_measured_has_no_noise():
    assert noise_energy(white(), torch.zeros(60, dtype=torch.bool)) == 0
