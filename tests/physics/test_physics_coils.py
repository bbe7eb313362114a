import torch

from nirvana_mri.physics.coils import adaptive_combine, combine, compress, compression_matrix, expand, rss, walsh_maps
from nirvana_mri.physics.fourier import fft2c
from nirvana_mri.physics.simulate import loop_fields


def disc(ny=48, nx=40):
    """A picture with an edge and some texture, complex."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, ny), torch.linspace(-1, 1, nx), indexing="ij")
    inside = (y.square() + x.square() < 0.7).float()
    return (inside * (1 + 0.3 * torch.sin(9 * x) * torch.cos(7 * y))).to(torch.complex64)


def test_combination_with_the_true_maps_gives_the_image_back():
    maps = loop_fields(6, (48, 40), seed=1)
    image = disc()
    torch.testing.assert_close(combine(expand(image, maps), maps), image, rtol=1e-4, atol=1e-5)


def test_adaptive_combination_is_as_bright_as_rss_and_needs_no_maps():
    images = expand(disc(), loop_fields(6, (48, 40), seed=1))
    torch.testing.assert_close(rss(walsh_maps(images)), torch.ones(48, 40), rtol=1e-4, atol=1e-4)
    combined = adaptive_combine(images).abs()
    assert (combined - rss(images)).abs().max() < 0.02 * rss(images).max()


def test_adaptive_combination_is_quieter_than_rss():
    generator = torch.Generator().manual_seed(0)
    noise = 0.1 * torch.randn(8, 48, 40, dtype=torch.complex64, generator=generator)
    images = expand(disc(), loop_fields(8, (48, 40), seed=1)) + noise
    outside = disc().abs() == 0
    assert adaptive_combine(images).abs()[outside].mean() < 0.8 * rss(images)[outside].mean()


def test_compression_keeps_the_promised_energy_with_orthonormal_rows():
    kspace = fft2c(expand(disc(), loop_fields(12, (48, 40), seed=1)))
    for energy in (0.9, 0.995, 0.9999):
        matrix = compression_matrix(kspace, energy)
        kept = compress(kspace, matrix).abs().square().sum() / kspace.abs().square().sum()
        assert kept >= energy - 1e-5
        fewer = compress(kspace, matrix[:-1]).abs().square().sum() / kspace.abs().square().sum()
        assert fewer < energy
        torch.testing.assert_close(matrix @ matrix.mH, torch.eye(len(matrix), dtype=matrix.dtype), rtol=0, atol=1e-5)


def test_compression_is_bounded_and_never_adds_coils():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(5, 8, 8, dtype=torch.complex64, generator=generator)
    assert compression_matrix(noise, 1.0).shape == (5, 5)
    assert compression_matrix(noise, 0.999, most=3).shape == (3, 5)
    assert compression_matrix(noise[:1]).shape == (1, 1)


def test_compression_does_not_depend_on_the_scale():
    kspace = fft2c(expand(disc(), loop_fields(6, (48, 40), seed=1)))
    torch.testing.assert_close(compression_matrix(kspace * 1e-6), compression_matrix(kspace), rtol=1e-3, atol=1e-3)


def test_coil_functions_take_conjugate_views():
    images = expand(disc(), loop_fields(3, (48, 40), seed=1))
    torch.testing.assert_close(rss(images.conj()), rss(images))
