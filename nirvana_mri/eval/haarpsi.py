"""HaarPSI (Reisenhofer, Bosse, Kutyniok, Wiegand 2018, "A Haar wavelet-based perceptual similarity index").

Written here because the library that has it needs torchvision; constants and border treatment are the authors'.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

C, ALPHA = 30.0, 4.2  # section 3, on intensities 0 to 255; C as it stands, not squared as in SSIM
SCALES = 3  # the two finer ones are compared, the coarsest weighs
Picture = NDArray[np.float64]


def haarpsi(target: NDArray[np.floating], prediction: NDArray[np.floating], data_range: float) -> float:
    """Perceptual similarity of two pictures [ny nx], 0 to 1 (equal)."""
    first, second = (_halved(np.asarray(p, np.float64) * (255 / data_range)) for p in (target, prediction))
    total, weights = 0.0, 0.0
    for axis in (0, 1):
        mine, theirs = (
            [np.abs(_haar(picture, scale, axis)) for scale in range(1, SCALES + 1)] for picture in (first, second)
        )
        alike = sum((2 * a * b + C) / (a**2 + b**2 + C) for a, b in zip(mine[:-1], theirs[:-1], strict=True))
        weight = np.maximum(mine[-1], theirs[-1])
        total += float((weight / (1 + np.exp(-ALPHA * alike / (SCALES - 1)))).sum())
        weights += float(weight.sum())
    if weights == 0:  # two pictures without any structure
        return 1.0
    share = total / weights
    return float((np.log(share / (1 - share)) / ALPHA) ** 2)


def _haar(picture: Picture, scale: int, axis: int) -> Picture:
    """Coefficients of the Haar wavelet of side 2**scale across ``axis``; beyond the border the picture is 0."""
    side = 2**scale
    step = np.where(np.arange(side) < side // 2, 1.0, -1.0)
    across = correlate1d(picture, step, axis=axis, mode="constant", origin=-1)
    along: Picture = correlate1d(across, np.ones(side), axis=1 - axis, mode="constant", origin=-1) / side
    return along


def _halved(picture: Picture) -> Picture:
    """Means of 2x2 pixels, 0 beyond the last: what a viewer at the usual distance resolves."""
    rows, columns = picture.shape
    even = np.pad(picture, ((0, rows % 2), (0, columns % 2)))
    halved: Picture = (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4
    return halved
