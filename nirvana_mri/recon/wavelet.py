"""Orthogonal wavelet transform of a complex picture, as matrix products in torch."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pywt
import torch
from jaxtyping import Complex, Float
from torch import Tensor


@dataclass(frozen=True)
class Wavelets:
    """Periodic orthogonal wavelets on a grid of ``shape`` (ny, nx), each a multiple of 2 to the ``levels``.

    One level of one axis is a small orthogonal matrix, made from PyWavelets' filters; two matrix products a level are
    faster than PyWavelets' loops over complex pictures, and run where torch does. ``forward`` keeps the 2-norm. The
    coefficients lie as usual: the approximation top left, details to its right and below.
    """

    shape: tuple[int, int]
    levels: int
    name: str = "db2"

    @cached_property
    def _matrices(self) -> list[tuple[Tensor, Tensor]]:
        return [
            (axis_matrix(self.shape[0] >> level, self.name), axis_matrix(self.shape[1] >> level, self.name))
            for level in range(self.levels)
        ]

    def forward(self, image: Complex[Tensor, "ny nx"]) -> Complex[Tensor, "ny nx"]:
        """Wavelet coefficients of an image."""
        planes = _planes(image)
        for rows, columns in self._matrices:
            ny, nx = len(rows), len(columns)
            planes[:, :ny, :nx] = rows.to(planes) @ planes[:, :ny, :nx] @ columns.to(planes).T
        return torch.complex(planes[0], planes[1])

    def inverse(self, coefficients: Complex[Tensor, "ny nx"]) -> Complex[Tensor, "ny nx"]:
        """The image of the coefficients: the inverse, and the adjoint, of :meth:`forward`."""
        planes = _planes(coefficients)
        for rows, columns in reversed(self._matrices):
            ny, nx = len(rows), len(columns)
            planes[:, :ny, :nx] = rows.to(planes).T @ planes[:, :ny, :nx] @ columns.to(planes)
        return torch.complex(planes[0], planes[1])


def axis_matrix(n: int, name: str) -> Float[Tensor, "n n"]:
    """One level of the wavelet transform of an axis of even length n: approximation above detail, orthogonal."""
    low, high = pywt.dwt(np.eye(n), name, mode="periodization", axis=0)
    return torch.from_numpy(np.concatenate([low, high]))


def _planes(image: Tensor) -> Tensor:
    return torch.stack([image.real, image.imag])
