"""Lesions of our own in simulated slices: soft ellipses, brighter or darker, whose place and size are known."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Complex
from torch import Tensor

from nirvana_mri.physics.ellipse import soft_ellipse

COUNTS = ((0, 1, 2), (0.4, 0.4, 0.2))  # how many, how often


@dataclass(frozen=True)
class Lesion:
    """The bounding box in pixels, row and column of its first corner, and whether it is brighter than around."""

    row: int
    column: int
    height: int
    width: int
    bright: bool


def insert_lesions(
    image: Complex[Tensor, "ny nx"], draw: np.random.Generator
) -> tuple[Complex[Tensor, "ny nx"], tuple[Lesion, ...]]:
    """The image with none, one or two lesions inside the object, and what they are. The phase is left alone."""
    size = image.abs()
    inside = torch.nonzero(size > 0.15 * size.max())
    gain = torch.ones_like(size)
    lesions = []
    for _ in range(int(draw.choice(COUNTS[0], p=COUNTS[1])) if len(inside) else 0):
        cy, cx = (int(place) for place in inside[int(draw.integers(len(inside)))])
        ry, rx = (float(draw.uniform(0.02, 0.06)) * n for n in image.shape)
        bright = bool(draw.random() < 0.5)
        strength = float(draw.uniform(0.35, 0.8)) * (1 if bright else -1)
        gain = gain * (1 + strength * soft_ellipse((image.shape[0], image.shape[1]), (cy, cx), (ry, rx)))
        top, left = max(0, round(cy - ry)), max(0, round(cx - rx))
        bottom, right = min(image.shape[0], round(cy + ry) + 1), min(image.shape[1], round(cx + rx) + 1)
        lesions.append(Lesion(top, left, bottom - top, right - left, bright))
    return image * gain, tuple(lesions)
