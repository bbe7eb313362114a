"""A slice in hybrid space gives the problems that its k-space gives."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support import brain8
from tiny import tiny_scan

from nirvana_mri.errors import ScanError
from nirvana_mri.physics.coils import rss
from nirvana_mri.physics.fourier import ifft2c
from nirvana_mri.physics.masks import make_mask
from nirvana_mri.recon.hybrid import hybrid_slice, prepare_hybrid
from nirvana_mri.recon.problem import centre_crop, prepare_slice


def require_the_same(kspace: np.ndarray, acquired: np.ndarray, mask: np.ndarray, crop: tuple[int, int]) -> None:
    wanted = prepare_slice(np.where(acquired, kspace, 0), mask, crop)
    whole = hybrid_slice(kspace, acquired, crop)
    found = prepare_hybrid(whole, mask)
    assert (found.scale, found.calibration, found.coils, found.crop) == (
        wanted.scale,
        wanted.calibration,
        wanted.coils,
        wanted.crop,
    )
    assert found.noise == pytest.approx(wanted.noise, rel=1e-6)
    torch.testing.assert_close(found.data, wanted.data)
    torch.testing.assert_close(found.operator.maps, wanted.operator.maps)
    torch.testing.assert_close(found.certainty, wanted.certainty)
    assert torch.equal(found.operator.mask, wanted.operator.mask)
    target = centre_crop(rss(ifft2c(torch.from_numpy(np.where(acquired, kspace, 0)))), found.crop)
    made = torch.from_numpy(whole.target) * 2.0**whole.exponent
    torch.testing.assert_close(made, target, rtol=1e-5, atol=1e-6 * float(target.max()))


@pytest.mark.parametrize("crop", [(96, 80), (64, 60), (24, 200)])
@pytest.mark.parametrize("calibration", [0, 5, 20, 41])
def test_its_problems_are_those_of_the_k_space(crop: tuple[int, int], calibration: int) -> None:
    """Whatever the readout's oversampling and the width of the calibration region; the border was never measured."""
    scan = tiny_scan(96, 80)
    acquired = np.ones(80, bool)
    acquired[:6] = acquired[77:] = False
    mask = acquired & (np.arange(80) % 3 == 1)  # the zero frequency, 40, is measured
    mask[40 - calibration // 2 : 40 + (calibration + 1) // 2] = True
    kspace = scan.kspace[0].copy()
    kspace[..., 2] = 1e3  # noise of a border that counts as not acquired
    require_the_same(kspace * np.float32(3e-7), acquired, mask, crop)


def test_a_loud_column_that_the_mask_leaves_out_changes_no_scale() -> None:
    scan = tiny_scan(96, 80)
    mask = make_mask("equispaced_fraction", (96, 80), 3, 0.2, 0)
    kspace = scan.kspace[0].copy()
    kspace[..., np.flatnonzero(~mask)[0]] = 50 * np.abs(kspace).max()
    require_the_same(kspace, np.ones(80, bool), mask, (96, 80))


def test_on_a_real_head_too(shared_data: Path) -> None:
    kspace = brain8(shared_data)
    mask = make_mask("equispaced_fraction", (230, 180), 4, 0.08, 0)
    require_the_same(kspace, np.ones(180, bool), mask, (230, 180))


def test_a_mask_that_leaves_nothing_to_work_with_is_refused() -> None:
    scan = tiny_scan(96, 80)
    whole = hybrid_slice(scan.kspace[0], scan.acquired, scan.crop)
    outer = np.arange(80) > 60
    for mask, says in ((outer, "leaves out the centre"), (np.zeros(80, bool), "largest measured sample is 0")):
        with pytest.raises(ScanError, match=says):
            prepare_hybrid(whole, mask)
    with pytest.raises(ScanError, match="largest measured sample is nan"):
        hybrid_slice(scan.kspace[0] * np.float32(np.nan), scan.acquired, scan.crop)
