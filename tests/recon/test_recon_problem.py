import numpy as np
import pytest
import torch
from tiny import tiny_scan

from nirvana_mri.errors import ScanError
from nirvana_mri.physics.coils import rss
from nirvana_mri.physics.fourier import ifft2c
from nirvana_mri.physics.masks import make_mask
from nirvana_mri.recon.problem import centre_crop, prepare_slice, zero_filled
from nirvana_mri.recon.simulate import simulate


def smooth(ny: int, nx: int) -> np.ndarray:
    """A picture with nothing in the corners of k-space, so that what is found there is noise alone."""
    y, x = np.meshgrid(np.linspace(-1, 1, ny), np.linspace(-1, 1, nx), indexing="ij")
    return np.exp(-8 * (y**2 + x**2)).astype(np.float32)[None]


def test_full_data_give_back_the_rss_picture_and_nearly_so_through_the_maps() -> None:
    scan = simulate(smooth(96, 80), coils=6, noise=0.05, seed=1)
    kspace = scan.kspace[0]
    target = rss(ifft2c(torch.from_numpy(kspace)))
    problem = prepare_slice(kspace, np.ones(scan.shape[-1], dtype=bool), scan.crop)
    torch.testing.assert_close(zero_filled(kspace, np.ones(80, dtype=bool), scan.crop), target, rtol=1e-5, atol=1e-6)
    image = problem.operator.adjoint(problem.data)
    with_floor, without = problem.finish(image), problem.finish(image, "sense")
    error = [float((picture - target).square().mean()) for picture in (with_floor, without)]
    assert error[0] < 0.5 * error[1], "the noise floor is what a combined image lacks"


def test_hybrid_space_equals_the_general_path() -> None:
    """The same column sampling, once as [nx] and once as [ny nx]: two code paths, one measurement."""
    scan = tiny_scan(ny=72, nx=64, coils=4)
    columns = make_mask("equispaced_fraction", scan.shape[-2:], 4, 0.16, 0)
    hybrid = prepare_slice(scan.kspace[0], columns, scan.crop)
    general = prepare_slice(scan.kspace[0], np.broadcast_to(columns, scan.shape[-2:]).copy(), scan.crop)
    assert hybrid.operator.hybrid
    assert not general.operator.hybrid
    adjoints = [problem.finish_complex(problem.operator.adjoint(problem.data)) for problem in (hybrid, general)]
    torch.testing.assert_close(adjoints[0], adjoints[1], rtol=2e-3, atol=1e-4)
    assert hybrid.noise == general.noise


def test_readout_oversampling_is_cropped_without_loss() -> None:
    scan = tiny_scan(ny=128, nx=64, coils=3)
    mask = np.ones(64, dtype=bool)
    small = prepare_slice(scan.kspace[0], mask, (64, 64))
    assert small.data.shape[1:] == (64, 64)
    target = centre_crop(rss(ifft2c(torch.from_numpy(scan.kspace[0]))), (64, 64))
    torch.testing.assert_close(zero_filled(scan.kspace[0], mask, (64, 64)), target, rtol=1e-5, atol=1e-6)


def test_noise_floor_is_the_noise_that_went_in() -> None:
    picture = smooth(128, 128)
    scan = simulate(picture, coils=8, noise=0.02, seed=1)
    problem = prepare_slice(scan.kspace[0], make_mask("random", (128, 128), 4, 0.08, 1), scan.crop)
    assert problem.sigma * problem.scale == pytest.approx(0.02 * float(picture.max()), rel=0.1)


@pytest.mark.parametrize("poison", [0.0, np.nan, np.inf])
def test_nothing_measured_is_refused(poison: float) -> None:
    kspace = np.full((2, 8, 8), poison, np.complex64)
    with pytest.raises(ScanError, match="largest measured sample"):
        prepare_slice(kspace, np.ones(8, dtype=bool), (8, 8))


def test_a_single_coil_has_no_floor() -> None:
    scan = tiny_scan(coils=1)
    problem = prepare_slice(scan.kspace[0], np.ones(56, dtype=bool), scan.crop)
    image = problem.operator.adjoint(problem.data)
    assert torch.equal(problem.finish(image), problem.finish(image, "sense"))
