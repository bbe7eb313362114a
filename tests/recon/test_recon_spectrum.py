from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import tiny_scan

from nirvana_mri.physics.fourier import fft2c
from nirvana_mri.physics.masks import make_mask
from nirvana_mri.recon.problem import SliceProblem, prepare_slice
from nirvana_mri.recon.spectrum import expected_energy

SHAPE = (64, 56)
COLUMNS = make_mask("equispaced_fraction", SHAPE, 4, 0.16, 0)


def problem(mask: np.ndarray = COLUMNS, scale: float = 1.0) -> SliceProblem:
    return prepare_slice(tiny_scan(*SHAPE).kspace[0] * np.float32(scale), mask, SHAPE)


def test_foretells_the_energy_that_was_not_measured() -> None:
    """In rings about zero frequency, to a factor of three: over k-space the energy falls by a thousand and more."""
    complete = problem(np.ones(SHAPE[1], bool))
    energy = fft2c(complete.operator.inverse_transform(complete.data)).abs().square().sum(0)
    foretold = expected_energy(problem())
    y, x = (torch.arange(n) - n // 2 for n in SHAPE)
    radius = torch.hypot(y[:, None] / SHAPE[0], x[None, :] / SHAPE[1])
    for low, high in ((0.05, 0.1), (0.1, 0.2), (0.2, 0.4)):
        ring = (radius >= low) & (radius < high)
        assert 1 / 3 < foretold[ring].mean() / energy[ring].mean() < 3
    assert foretold[32, 28] == foretold.max()


def test_does_not_depend_on_how_the_mask_is_written() -> None:
    columns, plane = problem(), problem(np.broadcast_to(COLUMNS, SHAPE))
    torch.testing.assert_close(expected_energy(columns), expected_energy(plane), rtol=1e-3, atol=0)


@pytest.mark.parametrize("scale", [3.0, 1e-7, 1e7])
def test_goes_with_the_square_of_the_scale(scale: float) -> None:
    louder, usual = problem(scale=scale), problem()
    on_scan = [expected_energy(p).double() * p.scale**2 for p in (louder, usual)]
    torch.testing.assert_close(on_scan[0] / scale**2, on_scan[1], rtol=1e-4, atol=0)


def test_a_single_measured_sample_is_enough() -> None:
    usual = problem(np.ones(SHAPE, bool))
    only = torch.zeros(SHAPE, dtype=torch.bool)
    only[32, 28] = True
    alone = replace(usual, operator=replace(usual.operator, mask=only), data=usual.data * only)
    assert expected_energy(alone).isfinite().all()
