"""Multi-scale SSIM, HaarPSI, edge sharpness: against direct implementations of the papers, and what they must obey."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from scipy.signal import convolve2d

from nirvana_mri.eval.haarpsi import haarpsi
from nirvana_mri.eval.multiscale import SMALLEST, ms_ssim
from nirvana_mri.eval.sharpness import edge_sharpness


def pair(ny, nx, noise=0.1, seed=0):
    random = np.random.default_rng(seed)
    target = gaussian_filter(random.random((ny, nx)), 2).astype(np.float32)
    target /= target.max()
    return target, (target + noise * random.normal(size=target.shape)).astype(np.float32)


def matlab_same(picture, kernel):
    """MATLAB's conv2(..., 'same'), which for even kernels is not scipy's."""
    return np.rot90(convolve2d(np.rot90(picture, 2), np.rot90(kernel, 2), mode="same"), 2)


def haarpsi_of_the_paper(target, prediction):
    """Equations 9 to 12 with the authors' constants, on [0, 255]."""
    pictures = [matlab_same(p.astype(float), np.ones((2, 2)) / 4)[::2, ::2] for p in (target, prediction)]
    coefficients = []
    for picture in pictures:
        for_axes = []
        for axis in (0, 1):
            of_scales = []
            for scale in (1, 2, 3):
                kernel = 2.0**-scale * np.ones((2**scale, 2**scale))
                kernel[: 2**scale // 2] *= -1
                of_scales.append(np.abs(matlab_same(picture, kernel if axis == 0 else kernel.T)))
            for_axes.append(of_scales)
        coefficients.append(for_axes)
    above = below = 0.0
    for a, b in zip(*coefficients, strict=True):
        similarity = np.mean([(2 * x * y + 30) / (x**2 + y**2 + 30) for x, y in zip(a[:2], b[:2], strict=True)], axis=0)
        weight = np.maximum(a[2], b[2])
        above += (weight / (1 + np.exp(-4.2 * similarity))).sum()
        below += weight.sum()
    share = above / below
    return (np.log(share / (1 - share)) / 4.2) ** 2


def ms_ssim_of_the_paper(target, prediction):
    """Wang 2003, as the authors' ssim_mscale: Gaussian window, valid part, 2x2 means with the last line mirrored."""
    line = np.exp(-(np.arange(-5, 6) ** 2) / 4.5)
    window = np.outer(line, line) / line.sum() ** 2
    x, y = target.astype(float), prediction.astype(float)
    result = 1.0
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        if scale:
            x, y = (
                convolve2d(p, np.ones((2, 2)) / 4, mode="full", boundary="symm")[1::2, 1::2][
                    : -(-p.shape[0] // 2), : -(-p.shape[1] // 2)
                ]
                for p in (x, y)
            )
        mx, my, xx, yy, xy = (convolve2d(p, window, mode="valid") for p in (x, y, x * x, y * y, x * y))
        contrast = (2 * (xy - mx * my) + 0.0009) / (xx - mx**2 + yy - my**2 + 0.0009)
        luminance = (2 * mx * my + 0.0001) / (mx**2 + my**2 + 0.0001)
        result *= (luminance * contrast if scale == 4 else contrast).mean() ** weight
    return result


@pytest.mark.parametrize("size", [(40, 40), (33, 21), (64, 46)])
@pytest.mark.parametrize("noise", [0.01, 0.2])
def test_haarpsi_is_that_of_the_paper(size, noise):
    target, prediction = pair(*size, noise)
    assert haarpsi(target, prediction, 1.0) == pytest.approx(
        haarpsi_of_the_paper(255 * target.astype(float), 255 * prediction.astype(float)), abs=1e-9
    )


@pytest.mark.parametrize("size", [(161, 161), (176, 200), (165, 171)])
def test_multi_scale_ssim_is_that_of_the_paper(size):
    target, prediction = pair(*size)
    assert ms_ssim(target, prediction, 1.0) == pytest.approx(ms_ssim_of_the_paper(target, prediction), abs=1e-6)


def test_both_give_what_piq_gives():
    """Values of piq 0.8.0 (float64) on this pair; it pads odd sides elsewhere, so these halve four times."""
    target, prediction = pair(176, 208)
    prediction = prediction.clip(0, 1)
    assert haarpsi(target, prediction, 1.0) == pytest.approx(0.5627669815067503, abs=1e-9)
    assert ms_ssim(target, prediction, 1.0) == pytest.approx(0.7972326319095029, abs=1e-9)


def test_multi_scale_ssim_needs_its_coarsest_window():
    target, prediction = pair(SMALLEST, SMALLEST)
    assert ms_ssim(target, prediction, 1.0) is not None
    assert ms_ssim(target[:-1], prediction[:-1], 1.0) is None


@pytest.mark.parametrize("metric", [haarpsi, ms_ssim])
@settings(max_examples=5)
@given(scale=st.floats(1e-6, 1e6), seed=st.integers(0, 99))
def test_similarities_scale_with_the_data_range_and_fall_with_noise(metric, scale, seed):
    target, prediction = pair(170, 170, 0.05, seed)
    _, worse = pair(170, 170, 0.3, seed)
    value = metric(target, prediction, 1.0)
    assert metric(scale * target.astype(float), scale * prediction.astype(float), scale) == pytest.approx(
        value, rel=1e-5
    )
    assert metric(target, target, 1.0) == pytest.approx(1)
    assert metric(target, worse, 1.0) < value < 1


def test_pictures_without_structure_are_alike():
    assert haarpsi(np.zeros((20, 20)), np.zeros((20, 20)), 1.0) == 1


def test_edges_are_as_sharp_as_the_target_where_nothing_is_lost():
    target = np.stack([pair(48, 40, seed=seed)[0] for seed in range(3)])
    blurred = np.stack([gaussian_filter(picture, 2) for picture in target])
    assert edge_sharpness(target, target) == pytest.approx(1)
    assert edge_sharpness(target, blurred) < 0.8
    assert edge_sharpness(target, target + (target - blurred)) > 1.1
    assert edge_sharpness(target * 1024, blurred * 1024) == edge_sharpness(target, blurred)
    assert edge_sharpness(np.ones((1, 16, 16)), np.ones((1, 16, 16))) is None
