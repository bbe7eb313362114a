import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nirvana_mri.codecs import KSpaceEncoder, KSpaceEncoderConfig
from nirvana_mri.codecs.kspace_encoder import log_magnitude, patch_states
from nirvana_mri.codecs.vit import VisionTransformer, sine_cosine_positions
from nirvana_mri.errors import UsageError


@given(ny=st.integers(5, 70), nx=st.integers(5, 70))
def test_any_size_is_tiled_by_whole_patches_between_begin_and_end(ny: int, nx: int) -> None:
    torch.manual_seed(0)
    encoder = KSpaceEncoder(KSpaceEncoderConfig(24, width=16, depth=1, heads=2))
    tokens, (rows, columns) = encoder(torch.randn(2, ny, nx, dtype=torch.complex64), torch.rand(2, ny, nx))
    assert (rows, columns) == (-(-ny // 16), -(-nx // 16))
    assert tokens.shape == (2, rows * columns + 2, 24)
    torch.testing.assert_close(tokens[0, 0], encoder.begin)
    torch.testing.assert_close(tokens[1, -1], encoder.end)
    assert torch.equal(patch_states(tokens, (rows, columns)).flatten(1, 2), tokens[:, 1:-1])


def test_slices_of_a_batch_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    vit = VisionTransformer(3, 16, 16, 2, 2)
    pictures = torch.randn(3, 3, 40, 33)
    torch.testing.assert_close(vit(pictures)[1], vit(pictures[1:2])[0])


def test_positions_differ_everywhere_and_agree_about_the_centre() -> None:
    small, large = sine_cosine_positions(5, 7, 32), sine_cosine_positions(9, 11, 32)
    flat = large.flatten(0, 1)
    distances = torch.cdist(flat, flat) + 10 * torch.eye(len(flat))
    assert distances.min() > 0.1
    torch.testing.assert_close(small, large[2:7, 2:9])


@given(power=st.integers(-30, 30), alpha=st.floats(0.1, 10))
def test_log_magnitude_ignores_scale(power: int, alpha: float) -> None:
    kspace = torch.randn(3, 8, 12, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    mask = torch.arange(12) % 3 != 1
    reference = log_magnitude(kspace, mask)
    assert torch.equal(log_magnitude(kspace * 2.0**power, mask), reference)
    torch.testing.assert_close(log_magnitude(kspace * alpha, mask), reference, rtol=1e-4, atol=1e-5)
    assert float(reference.max()) == 1
    assert torch.equal(reference[:, ~mask], torch.zeros(8, int((~mask).sum())))


def test_log_magnitude_does_not_look_at_unmeasured_samples() -> None:
    kspace = torch.randn(2, 6, 9, dtype=torch.complex64)
    mask = torch.rand(6, 9) < 0.5
    poisoned = torch.where(mask, kspace, torch.full_like(kspace, torch.nan))
    assert torch.equal(log_magnitude(poisoned, mask), log_magnitude(kspace, mask))


def test_a_width_that_positions_cannot_fill_is_refused() -> None:
    with pytest.raises(UsageError, match="encoder width 20"):
        KSpaceEncoderConfig(32, width=20, heads=4)
