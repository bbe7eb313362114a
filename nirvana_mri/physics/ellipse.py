"""Soft ellipses: what lesions of known place and size are made of."""

import torch
from jaxtyping import Float
from torch import Tensor

SOFTNESS = 0.15  # of the edge, as a share of the radius


def soft_ellipse(
    shape: tuple[int, int], centre: tuple[float, float], radii: tuple[float, float]
) -> Float[Tensor, "ny nx"]:
    """1 inside an ellipse of these radii [pixels] about ``centre`` (row, column), 0 outside, a half on its edge."""
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in shape), indexing="ij")
    radius = (((y - centre[0]) / radii[0]) ** 2 + ((x - centre[1]) / radii[1]) ** 2).sqrt()
    return torch.sigmoid((1 - radius) / SOFTNESS)
