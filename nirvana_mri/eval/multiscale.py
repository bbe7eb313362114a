"""Multi-scale SSIM (Wang, Simoncelli, Bovik 2003, "Multiscale structural similarity for image quality assessment").

Written here because the libraries that have it need torchvision, or bring a framework along for one formula.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, finest first; section 4
SIDE, SIGMA = 11, 1.5  # pixels: the Gaussian window
K1, K2 = 0.01, 0.03
SMALLEST = (SIDE - 1) * 2 ** (len(WEIGHTS) - 1) + 1  # pixels a side: one window at the coarsest scale
Picture = NDArray[np.float64]


def ms_ssim(target: NDArray[np.floating], prediction: NDArray[np.floating], data_range: float) -> float | None:
    """Multi-scale SSIM of two pictures [ny nx], at most 1; None where a side is shorter than 161 pixels.

    Contrast and structure of five scales and the luminance of the coarsest, to the powers of the paper; windows lie
    whole in the picture. A mean that is negative counts as 0, as its power has no value.
    """
    if min(target.shape) < SMALLEST:
        return None
    first, second = (np.asarray(picture, np.float64) / data_range for picture in (target, prediction))
    result = 1.0
    for scale, weight in enumerate(WEIGHTS):
        if scale:
            first, second = _halved(first), _halved(second)
        similarity, contrast = _similarity(first, second)
        result *= max(similarity if scale == len(WEIGHTS) - 1 else contrast, 0.0) ** weight
    return result


def _similarity(first: Picture, second: Picture) -> tuple[float, float]:
    """(SSIM, its contrast-structure part), means over the picture."""
    mean1, mean2 = _blurred(first), _blurred(second)
    variances = _blurred(first**2) - mean1**2 + _blurred(second**2) - mean2**2
    covariance = _blurred(first * second) - mean1 * mean2
    contrast = (2 * covariance + K2**2) / (variances + K2**2)
    luminance = (2 * mean1 * mean2 + K1**2) / (mean1**2 + mean2**2 + K1**2)
    return float((luminance * contrast).mean()), float(contrast.mean())


def _blurred(picture: Picture) -> Picture:
    """The Gaussian mean, where the whole window fits."""
    half = SIDE // 2
    window = np.exp(-((np.arange(SIDE) - half) ** 2) / (2 * SIGMA**2))
    window /= window.sum()
    blurred: Picture = correlate1d(correlate1d(picture, window, axis=0), window, axis=1)[half:-half, half:-half]
    return blurred


def _halved(picture: Picture) -> Picture:
    """Means of 2x2 pixels; a last odd row or column counts twice, as in the authors' code."""
    rows, columns = picture.shape
    even = np.pad(picture, ((0, rows % 2), (0, columns % 2)), mode="edge")
    halved: Picture = (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4
    return halved
