"""What must hold for every method, whatever the scan."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_model, tiny_scan

import nirvana_mri as nm
from nirvana_mri.physics.masks import make_mask
from nirvana_mri.recon.pipeline import METHODS
from nirvana_mri.scan import Scan

MODEL = tiny_model()
SCAN = tiny_scan(slices=2)
MASKS = {
    "columns": make_mask("equispaced_fraction", (64, 56), 4, 0.16, 0),
    "plane": make_mask("poisson", (64, 56), 3, 0.2, 0),
}


@dataclass(frozen=True, eq=False)
class Changed:
    """Slices of a scan, seen through a function."""

    source: Scan
    change: Callable[[np.ndarray], np.ndarray]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.kspace.shape

    def __len__(self) -> int:
        return len(self.source.kspace)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.change(self.source.kspace[index]).astype(np.complex64)


def _changed(change: Callable[[np.ndarray], np.ndarray]) -> Scan:
    return replace(SCAN, kspace=Changed(SCAN, change))


def _voxels(scan: Scan, method: str, sampling: str, **options: object) -> np.ndarray:
    return nm.reconstruct(scan, MODEL, method, mask=MASKS[sampling], slices=[0], **options).voxels


every = pytest.mark.parametrize(("method", "sampling"), [(m, s) for m in METHODS for s in MASKS])


@every
def test_unsampled_entries_never_change_an_output_bit(method: str, sampling: str) -> None:
    mask = MASKS[sampling]
    for poison in (np.nan, -0.0, 1e30):
        poisoned = _changed(lambda kspace, poison=poison: np.where(mask, kspace, poison))
        np.testing.assert_array_equal(_voxels(poisoned, method, sampling), _voxels(SCAN, method, sampling))


@every
@settings(max_examples=6)
@given(power=st.integers(-26, 26))
def test_scaling_by_two_scales_every_bit(method: str, sampling: str, power: int) -> None:
    scaled = _voxels(_changed(lambda kspace: kspace * 2.0**power), method, sampling)
    np.testing.assert_array_equal(scaled, _voxels(SCAN, method, sampling) * np.float32(2.0**power))


@every
@settings(max_examples=6)
@given(exponent=st.floats(-8, 8))
def test_scaling_the_scan_scales_the_picture(method: str, sampling: str, exponent: float) -> None:
    alpha = 10.0**exponent
    reference = _voxels(SCAN, method, sampling).astype(np.float64) * alpha
    scaled = _voxels(_changed(lambda kspace: kspace * alpha), method, sampling)
    np.testing.assert_allclose(scaled, reference, rtol=1e-5, atol=1e-5 * reference.max())


@every
def test_the_same_input_gives_the_same_bytes(method: str, sampling: str) -> None:
    assert _voxels(SCAN, method, sampling).tobytes() == _voxels(SCAN, method, sampling).tobytes()


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_slices_is_irrelevant(method: str) -> None:
    forward = nm.reconstruct(SCAN, MODEL, method, mask=MASKS["columns"], slices=[0, 1]).voxels
    backward = nm.reconstruct(SCAN, MODEL, method, mask=MASKS["columns"], slices=[1, 0]).voxels
    np.testing.assert_array_equal(forward, backward[::-1])


@settings(max_examples=8)
@given(ny=st.integers(17, 70), nx=st.integers(24, 60), coils=st.integers(1, 9))
def test_any_matrix_and_any_number_of_coils(ny: int, nx: int, coils: int) -> None:
    scan = tiny_scan(ny, nx, coils=coils)
    volume = nm.reconstruct(scan, MODEL, accelerate=2, center_fraction=0.3, mask="random")
    assert volume.voxels.shape == (1, ny, nx)
    assert np.isfinite(volume.voxels).all()


def test_sixty_four_coils() -> None:
    scan = tiny_scan(32, 32, coils=64)
    assert np.isfinite(nm.reconstruct(scan, MODEL, accelerate=2, center_fraction=0.3).voxels).all()


def test_reconstructing_leaves_the_backbone_as_it_is() -> None:
    from nirvana_mri.recon.checkpoint import backbone_sha256

    before = backbone_sha256(MODEL)
    _voxels(SCAN, "nirvana", "columns")
    assert backbone_sha256(MODEL) == before


def test_the_tokens_reach_the_picture() -> None:
    """A language model in the middle that changed nothing would be an ornament: another one gives another picture."""
    other = tiny_model()
    with torch.no_grad():
        for parameter in other.backbone.parameters():
            parameter.mul_(1.5)
    pictures = [nm.reconstruct(SCAN, model, mask=MASKS["columns"], slices=[0]).voxels for model in (MODEL, other)]
    assert np.abs(pictures[0] - pictures[1]).max() > 1e-4 * pictures[0].max()
