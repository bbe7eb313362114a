"""Parity with fastmri.evaluate's own functions, and what must not move a score."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nirvana_mri.errors import DataError, ProtocolError
from nirvana_mri.eval import metrics


def volumes(shape=(3, 24, 20), scale=1.0, seed=0, noise=0.1, dtype=np.float32):
    rng = np.random.default_rng(seed)
    target = np.cumsum(rng.random(shape), axis=-1)
    prediction = target + noise * target.max() * rng.normal(size=shape)
    return (scale * target).astype(dtype), (scale * prediction).astype(dtype)


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(7, 40), st.integers(7, 40)),
    scale=st.sampled_from([1e-5, 1.0, 300.0]),
    noise=st.floats(1e-3, 1),
    seed=st.integers(0, 1000),
)
def test_equal_fastmri(shape, scale, noise, seed):
    fastmri = pytest.importorskip("fastmri.evaluate")
    target, prediction = volumes(shape, scale, seed, noise)
    assert metrics.ssim(target, prediction) == pytest.approx(fastmri.ssim(target, prediction).item(), abs=1e-6)
    assert metrics.psnr(target, prediction) == pytest.approx(float(fastmri.psnr(target, prediction)), abs=1e-6)
    assert metrics.nmse(target, prediction) == pytest.approx(float(fastmri.nmse(target, prediction)), abs=1e-6)


@pytest.mark.parametrize("metric", [metrics.ssim, metrics.psnr, metrics.nmse])
@given(scale=st.floats(1e-12, 1e12))
def test_do_not_depend_on_the_common_scale(metric, scale):
    target, prediction = volumes()
    assert metric(target * np.float32(scale), prediction * np.float32(scale)) == pytest.approx(
        metric(target, prediction), rel=1e-4
    )


def test_bits_stay_for_powers_of_two():
    target, prediction = volumes()
    for metric in (metrics.ssim, metrics.psnr, metrics.nmse):
        assert metric(target * np.float32(2.0**-30), prediction * np.float32(2.0**-30)) == metric(target, prediction)


def test_equal_volumes():
    target, _ = volumes()
    assert metrics.ssim(target, target) == 1
    assert metrics.psnr(target, target) == float("inf")
    assert metrics.nmse(target, target) == 0


def test_data_range_is_that_of_the_volume_not_of_the_slice():
    target, prediction = volumes((2, 16, 16))
    alone = metrics.ssim(target[:1], prediction[:1])
    target[1] *= 20
    prediction[1] = target[1]
    assert metrics.ssim(target, prediction) > (alone + 1) / 2 + 1e-3


@pytest.mark.parametrize("metric", [metrics.ssim, metrics.psnr, metrics.nmse])
def test_what_cannot_be_compared(metric):
    target, prediction = volumes()
    with pytest.raises(ProtocolError, match="3x24x20 and prediction 2x24x20"):
        metric(target, prediction[:2])
    with pytest.raises(DataError, match="empty"):
        metric(np.zeros_like(target), prediction)


def test_ssim_needs_its_window():
    target, prediction = volumes((1, 6, 9))
    with pytest.raises(ProtocolError, match="7x7"):
        metrics.ssim(target, prediction)
