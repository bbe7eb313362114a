"""SSIM, PSNR and NMSE of a volume by fastMRI's rule (Zbontar et al. 2018, arXiv 1811.08839, section 6).

All take real volumes [slice ny nx] already cut to the same size. Like fastMRI's own `evaluate`, they compute in the
precision of the data. Both volumes are first scaled by one power of two, which changes no digit but keeps
products of small intensities (fastMRI's are near 1e-5) from vanishing.
"""

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from nirvana_mri.errors import DataError, ProtocolError

WINDOW = 7  # pixels: the side of skimage's uniform SSIM window
Pictures = NDArray[np.floating]


def ssim(target: Pictures, prediction: Pictures) -> float:
    """Mean over slices of the structural similarity: 7x7 uniform window, K 0.01 and 0.03, sample covariance.

    The data range is the maximum of the target *volume*. Raises ProtocolError for pictures below 7x7.
    """
    if min(target.shape[1:]) < WINDOW:
        raise ProtocolError(f"SSIM needs pictures of at least {WINDOW}x{WINDOW}, these are {_size(target)}")
    target, prediction = _comparable(target, prediction)
    largest = target.max()
    # Summed in this order and precision because fastMRI does.
    each = [structural_similarity(t, p, data_range=largest) for t, p in zip(target, prediction, strict=True)]
    return float(sum(each) / len(each))


def psnr(target: Pictures, prediction: Pictures) -> float:
    """Peak signal-to-noise ratio [dB] of the volume: its mean squared error against the target's maximum.

    Infinite where the two are equal.
    """
    target, prediction = _comparable(target, prediction)
    if np.array_equal(target, prediction):
        return float("inf")
    return float(peak_signal_noise_ratio(target, prediction, data_range=target.max()))


def nmse(target: Pictures, prediction: Pictures) -> float:
    """Squared error of the volume over the target's energy."""
    target, prediction = _comparable(target, prediction)
    return float(np.linalg.norm(target - prediction) ** 2 / np.linalg.norm(target) ** 2)


def _comparable(target: Pictures, prediction: Pictures) -> tuple[Pictures, Pictures]:
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
