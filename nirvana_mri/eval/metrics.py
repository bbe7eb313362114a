"""SSIM, PSNR and NMSE of a volume by fastMRI's rule (Zbontar et al. 2018, arXiv 1811.08839, section 6).

All take real volumes [slice ny nx] already cut to the same size. Like fastMRI's own `evaluate`, they compute in the
precision of the data. Both volumes are first scaled by one power of two, which changes no digit but keeps
products of small intensities (fastMRI's are near 1e-5) from vanishing.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from nirvana_mri.errors import DataError, ProtocolError

WINDOW = 7  # pixels: the side of skimage's uniform SSIM window
Pictures = NDArray[np.floating]


def ssim(target: Pictures, prediction: Pictures) -> float:
    """Mean over slices of :func:`ssim_each`, summed in this order and precision because fastMRI does."""
    each = ssim_each(target, prediction)
    return sum(each) / len(each)


def ssim_each(target: Pictures, prediction: Pictures) -> list[float]:
    """Structural similarity of each slice: 7x7 uniform window, K 0.01 and 0.03, sample covariance.

    The data range is the maximum of the target *volume*. Raises ProtocolError for pictures below 7x7.
    """
    target, prediction = _windowed(target, prediction)
    largest = target.max()
    return [float(structural_similarity(t, p, data_range=largest)) for t, p in zip(target, prediction, strict=True)]


def ssim_maps(target: Pictures, prediction: Pictures, numbers: Iterable[int]) -> Iterator[Pictures]:
    """The structural similarity [ny nx] about each pixel of these slices, one at a time; data range as above.

    Within 3 pixels of the border, windows go on in the picture's mirror image.
    """
    target, prediction = _windowed(target, prediction)
    largest = target.max()
    for number in numbers:
        yield structural_similarity(target[number], prediction[number], data_range=largest, full=True)[1]


def psnr(target: Pictures, prediction: Pictures) -> float:
    """Peak signal-to-noise ratio [dB] of the volume: its mean squared error against the target's maximum.

    Infinite where the two are equal.
    """
    target, prediction = comparable(target, prediction)
    if np.array_equal(target, prediction):
        return float("inf")
    return float(peak_signal_noise_ratio(target, prediction, data_range=target.max()))


def nmse(target: Pictures, prediction: Pictures) -> float:
    """Squared error of the volume over the target's energy."""
    target, prediction = comparable(target, prediction)
    return float(np.linalg.norm(target - prediction) ** 2 / np.linalg.norm(target) ** 2)


def _windowed(target: Pictures, prediction: Pictures) -> tuple[Pictures, Pictures]:
    if min(target.shape[1:]) < WINDOW:
        raise ProtocolError(f"SSIM needs pictures of at least {WINDOW}x{WINDOW}, these are {_size(target)}")
    return comparable(target, prediction)


def comparable(target: Pictures, prediction: Pictures) -> tuple[Pictures, Pictures]:
    """Both, times the power of two that brings the target's maximum into [0.5, 1)."""
    if target.shape != prediction.shape or target.ndim != 3:
        raise ProtocolError(
            f"target {_size(target)} and prediction {_size(prediction)} are not two volumes of one size"
        )
    largest = float(target.max())
    if not largest > 0:
        raise DataError(f"the largest value of the target is {largest:g}, expected a positive one; is it empty?")
    exponent = -int(np.frexp(largest)[1])
    return np.ldexp(target, exponent), np.ldexp(prediction, exponent)


def _size(volume: Pictures) -> str:
    return "x".join(str(n) for n in volume.shape)
