"""Wavelet shrinkage: the prior that MR pictures are sparse in wavelets."""

import numpy as np
import pywt
import torch
from jaxtyping import Complex
from torch import Tensor

NAME = "haar"  # on training data 0.3 dB better than db2, and faster


def shrink(image: Complex[Tensor, "ny nx"], thresholds: list[float]) -> Complex[Tensor, "ny nx"]:
    """The image with its wavelet details soft-thresholded, each complex one by its magnitude.

    Undecimated wavelets ("à trous", Coifman and Donoho 1995) favour no place, unlike orthogonal ones. They are a tight
    frame here: thresholds of zero give the image back. ``thresholds`` go from the finest level to the coarsest; the
    approximation stays. The picture may have any size: it is padded with zeros, which keeps the frame tight.
    """
    ny, nx = image.shape
    cell = 1 << len(thresholds)
    padded = np.pad(image.cpu().numpy(), ((0, -ny % cell), (0, -nx % cell)))
    approximation, *levels = pywt.swt2(padded, NAME, len(thresholds), norm=True, trim_approx=True)
    shrunk = [tuple(_soft(band, t) for band in bands) for bands, t in zip(levels, reversed(thresholds), strict=True)]
    picture = pywt.iswt2([approximation, *shrunk], NAME, norm=True)
    return torch.from_numpy(picture[:ny, :nx]).to(image)


def _soft(detail: np.ndarray, threshold: float) -> np.ndarray:
    size = np.abs(detail)
    kept = size > threshold
    gain = np.zeros_like(size)
    np.divide(size - threshold, size, out=gain, where=kept)
    return detail * gain
