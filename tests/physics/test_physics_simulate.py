import pytest
import torch

from nirvana_mri.errors import UsageError
from nirvana_mri.physics.coils import rss
from nirvana_mri.physics.fourier import ifft2c
from nirvana_mri.physics.simulate import Simulation, loop_fields, simulate_slice


def picture(ny=40, nx=33):
    return torch.rand(ny, nx, generator=torch.Generator().manual_seed(0)).to(torch.complex64)


@pytest.mark.parametrize("coils", [1, 3, 8, 16, 64])
def test_noiseless_rss_is_the_picture(coils):
    kspace = simulate_slice(picture(), Simulation(coils=coils, noise=0.0, seed=3))
    assert kspace.shape == (coils, 40, 33)
    assert kspace.dtype == torch.complex64
    torch.testing.assert_close(rss(ifft2c(kspace)), picture().abs(), rtol=1e-4, atol=1e-4)


def test_same_seed_same_bytes_in_any_order():
    settings = Simulation(seed=5)
    forth = [simulate_slice(picture(), settings, i, 3) for i in (0, 1, 2)]
    back = [simulate_slice(picture(), settings, i, 3) for i in (2, 1, 0)][::-1]
    assert all(torch.equal(a, b) for a, b in zip(forth, back, strict=True))
    assert not torch.equal(forth[0], forth[1])
    assert not torch.equal(forth[0], simulate_slice(picture(), Simulation(seed=6), 0, 3))


def test_noise_has_the_promised_size():
    settings = Simulation(coils=4, noise=0.05, phase=0.0, seed=1)
    silent = Simulation(coils=4, noise=0.0, phase=0.0, seed=1)
    noise = simulate_slice(picture(), settings, peak=10.0) - simulate_slice(picture(), silent, peak=10.0)
    assert float(noise.abs().square().mean().sqrt()) == pytest.approx(0.05 * 10, rel=0.05)


def test_slices_do_not_share_their_noise():
    def noise(index):
        settings = Simulation(coils=2, noise=0.1, seed=1)
        silent = Simulation(coils=2, noise=0.0, seed=1)
        return simulate_slice(picture(), settings, index, 3) - simulate_slice(picture(), silent, index, 3)

    assert float((noise(0) - noise(1)).abs().mean() / noise(0).abs().mean()) > 1


def test_a_complex_picture_keeps_its_phase_when_none_is_added():
    image = picture() * torch.exp(1j * torch.linspace(0, 3, 33))
    kspace = simulate_slice(image, Simulation(coils=4, noise=0.0, phase=0.0, seed=1))
    fields = loop_fields(4, (40, 33), 1, height=0.0)
    torch.testing.assert_close((fields.conj() * ifft2c(kspace)).sum(0), image, rtol=1e-4, atol=1e-4)


def test_coils_see_different_places_smoothly():
    fields = loop_fields(8, (64, 64), seed=0)
    torch.testing.assert_close(rss(fields), torch.ones(64, 64), rtol=1e-5, atol=1e-5)
    steps = (fields[:, 1:] - fields[:, :-1]).abs()
    assert steps.max() < 0.25
    brightest = {int(field.abs().argmax()) for field in fields}
    assert len(brightest) >= 6


@pytest.mark.parametrize("wrong", [{"coils": 0}, {"coils": 65}, {"noise": -0.1}, {"noise": 2.0}, {"phase": -1.0}])
def test_settings_that_cannot_be(wrong):
    with pytest.raises(UsageError, match=str(next(iter(wrong.values())))):
        Simulation(**wrong)
