"""The centred, orthonormal Fourier transform in numpy, for readers whose files are not k-space of one plane."""

from __future__ import annotations

import numpy as np
from jaxtyping import Complex
from numpy import ndarray as Array
from numpy.typing import NDArray


def centred_fft2(images: Complex[Array, "*batch ny nx"]) -> NDArray[np.complex64]:
    """The k-space of images, complex64; zero frequency at index n // 2 on both axes, the 2-norm kept."""
    axes = (-2, -1)
    with np.errstate(over="ignore", invalid="ignore"):  # Inf stays Inf or becomes NaN, which check_slice refuses
        spectrum = np.fft.fft2(np.fft.ifftshift(images, axes), axes=axes, norm="ortho")
    return np.fft.fftshift(spectrum, axes).astype(np.complex64)


def inverse_row(number: int, size: int) -> NDArray[np.complex64]:
    """The weights that sum ``size`` encodings to position ``number``: one row of the centred, orthonormal inverse DFT.

    A slice of a volume with three encoded axes is made from its row alone, so that no volume is ever held.
    """
    turns = (number - size // 2) * (np.arange(size) - size // 2) / size
    return (np.exp(2j * np.pi * turns) / np.sqrt(size)).astype(np.complex64)
