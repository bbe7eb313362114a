import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from bart import Bart
from support import brain8

from nirvana_mri.physics.coils import combine, expand, rss
from nirvana_mri.physics.espirit import estimate_maps
from nirvana_mri.physics.fourier import fft2c, ifft2c
from nirvana_mri.physics.simulate import loop_fields, smooth_phase

SHAPE = (64, 56)


def calibration(coils=6, lines=20, noise=0.0, shape=SHAPE):
    """The centre of simulated k-space, with the picture and the maps that made it."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, shape[0]), torch.linspace(-1, 1, shape[1]), indexing="ij")
    image = ((y.square() + x.square() < 0.6) * (1 + 0.3 * torch.sin(9 * x) * torch.cos(7 * y))).to(torch.complex64)
    maps = loop_fields(coils, shape, seed=2)
    kspace = fft2c(expand(image, maps))
    generator = torch.Generator().manual_seed(0)
    kspace = kspace + noise * torch.randn(kspace.shape, dtype=kspace.dtype, generator=generator)
    top, left = shape[0] // 2 - lines // 2, shape[1] // 2 - lines // 2
    return kspace[:, top : top + lines, left : left + lines], image, maps


@pytest.mark.parametrize("shape", [(64, 56), (45, 51), (32, 96)])
@pytest.mark.parametrize("lines", [20, 21])
def test_finds_the_maps_that_made_the_data(shape, lines):
    block, image, truth = calibration(lines=lines, shape=shape)
    maps, certainty = estimate_maps(block, shape)
    assert maps.shape == truth.shape
    inside = image.abs() > 0
    alike = combine(maps, truth).abs()  # 1 where both point the same way, whatever their phase
    assert alike[inside].quantile(0.05) > 0.99
    assert certainty[inside].median() > 0.95
    assert certainty.min() >= 0
    assert certainty.max() <= 1


@pytest.mark.parametrize("coils", [1, 2, 5])
@pytest.mark.parametrize("lines", [1, 2, 3, 8, 24])
def test_maps_have_unit_norm_everywhere_at_any_size(coils, lines):
    block, _, _ = calibration(coils, lines, noise=0.05)
    maps, certainty = estimate_maps(block, SHAPE)
    torch.testing.assert_close(rss(maps), torch.ones(SHAPE), rtol=1e-4, atol=1e-4)
    assert certainty.isfinite().all()


@pytest.mark.parametrize("scale", [1e-6, 3.0, 2.0**20])
def test_maps_do_not_depend_on_the_scale(scale):
    block, image, _ = calibration(noise=0.01)
    maps, _ = estimate_maps(block, SHAPE)
    scaled, _ = estimate_maps(block * scale, SHAPE)
    inside = image.abs() > 0
    assert (combine(scaled, maps).abs()[inside] > 0.9999).all()


def test_an_image_seen_through_the_maps_is_nearly_real():
    """The object's phase goes into the maps, so that a network sees magnitudes."""
    _, image, truth = calibration()
    turn = torch.polar(torch.ones(SHAPE), smooth_phase(SHAPE, 3.0, np.random.default_rng(0)))
    kspace = fft2c(expand(image * turn, truth))
    block = kspace[:, 22:42, 18:38]
    maps, _ = estimate_maps(block, SHAPE)
    seen = combine(expand(image * turn, truth), maps)
    inside = image.abs() > 0
    assert seen[inside].angle().abs().mean() < 0.06  # rad; the phase range of the object is 3


def test_certainty_is_low_where_there_is_only_noise():
    block, image, _ = calibration(noise=0.05)
    _, certainty = estimate_maps(block, SHAPE)
    assert certainty[image.abs() > 0].mean() > certainty[:6, :6].mean()


@pytest.mark.skipif(not shutil.which("bart"), reason="bart is not installed; run: make peers")
@pytest.mark.parametrize("lines", [24, 16])
def test_agrees_with_bart_on_a_real_brain(lines, shared_data: Path, tmp_path: Path):
    kspace = brain8(shared_data)
    ny, nx = kspace.shape[1:]
    block = kspace[:, ny // 2 - lines // 2 :, nx // 2 - lines // 2 :][:, :lines, :lines]
    maps, certainty = estimate_maps(torch.from_numpy(block.copy()), (ny, nx))
    bart = Bart(tmp_path, kspace, lines)
    eigenvalue = torch.from_numpy(bart.eigenvalue)
    sure = eigenvalue > 0.9
    assert 0.3 < sure.float().mean() < 0.9
    theirs = torch.from_numpy(bart.maps)
    alike = combine(maps, theirs).abs() / rss(theirs).clamp_min(1e-6)  # 1 where they differ by a phase at most
    picture = rss(ifft2c(torch.from_numpy(kspace)))
    assert alike[sure].quantile(0.05) > 0.99
    assert alike[sure & (picture > 0.1 * picture.max())].quantile(0.001) > 0.99
    torch.testing.assert_close(rss(maps), torch.ones(ny, nx), rtol=1e-4, atol=1e-4)  # also where BART's are cut to zero
    assert (certainty - eigenvalue)[sure].abs().quantile(0.9) < 0.05
    assert torch.corrcoef(torch.stack([certainty.flatten(), eigenvalue.flatten()]))[0, 1] > 0.98


def test_maps_of_a_strip_are_rows_of_the_whole() -> None:
    """Also where the strip does not begin at a multiple of the rows that are worked on at once."""
    block = torch.randn(4, 20, 18, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    maps, certainty = estimate_maps(block, (70, 40))
    for rows in (slice(13, 50), slice(60, 70), slice(0, 5)):
        strip, share = estimate_maps(block, (70, 40), rows)
        torch.testing.assert_close(strip, maps[:, rows], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(share, certainty[rows], atol=1e-5, rtol=1e-5)
    single, _ = estimate_maps(block[:1], (70, 40), slice(13, 50))
    torch.testing.assert_close(single, estimate_maps(block[:1], (70, 40))[0][:, 13:50])
