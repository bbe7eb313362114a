"""Scores of the object alone: air, which is easy to predict, does not count."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes
from skimage.filters import threshold_otsu
from skimage.morphology import isotropic_closing

from nirvana_mri.errors import DataError
from nirvana_mri.eval.metrics import WINDOW, Pictures, comparable, ssim_maps

BINS, CLOSING = 256, 3  # of Otsu's histogram; pixels: radius of the closing disc


def foreground(target: Pictures) -> NDArray[np.bool_]:
    """bool [slice ny nx], True in the object: above Otsu's threshold of the volume, closed, and holes filled per slice.

    Raises: DataError where the target has one value only.
    """
    if target.min() == target.max():
        raise DataError(f"the target is {target.max():g} everywhere, expected an object before air; is it empty?")
    above = target > threshold_otsu(target, nbins=BINS)
    return np.stack([binary_fill_holes(isotropic_closing(slice_, CLOSING)) for slice_ in above])


def foreground_ssim_each(target: Pictures, prediction: Pictures, mask: NDArray[np.bool_]) -> list[float | None]:
    """For each slice the mean of SSIM's map over the foreground, where the window lies whole in the picture.

    None for a slice without such a pixel. Data range: the maximum of the target volume.
    """
    edge = (WINDOW - 1) // 2
    inside = np.zeros_like(mask)
    inside[:, edge:-edge, edge:-edge] = mask[:, edge:-edge, edge:-edge]
    maps = ssim_maps(target, prediction, range(len(target)))
    return [
        float(similarity[chosen].mean(dtype=np.float64)) if chosen.any() else None
        for similarity, chosen in zip(maps, inside, strict=True)
    ]


def foreground_psnr(target: Pictures, prediction: Pictures, mask: NDArray[np.bool_]) -> float:
    """PSNR [dB] of the foreground's mean squared error against the maximum of the target volume."""
    target, prediction = comparable(target, prediction)
    error = np.mean((target[mask] - prediction[mask]) ** 2, dtype=np.float64)
    return float("inf") if error == 0 else float(10 * np.log10(float(target.max()) ** 2 / error))


def foreground_nmse(target: Pictures, prediction: Pictures, mask: NDArray[np.bool_]) -> float:
    """Squared error of the foreground over the target's energy in it."""
    target, prediction = comparable(target, prediction)
    wanted, found = target[mask].astype(np.float64), prediction[mask].astype(np.float64)
    return float(np.sum((wanted - found) ** 2) / np.sum(wanted**2))
