"""Rotary positions: queries and keys turned by their place, so that their products know how far apart they are."""

import torch
from jaxtyping import Float
from torch import Tensor

from nirvana_mri.backbone.config import ROTARY_BASE
from nirvana_mri.backbone.ops.precision import at_least_float32


def rotate(x: Float[Tensor, "*batch token channel"], first: int) -> Float[Tensor, "*batch token channel"]:
    """x with channels i and i + channel / 2 of the token at position p turned by the angle p * base^(-2 i / channel).

    first is the position of the first token; only differences of positions count in a product of two rotated vectors.
    The angles are computed in float64, so that they stay exact far into a sequence. Source: RoFormer (arXiv 2104.09864,
    eq. 34), with the pairs that GPT-NeoX and Llama take.
    """
    half = x.shape[-1] // 2
    speeds = ROTARY_BASE ** (-torch.arange(half, dtype=torch.float64, device=x.device) / half)
    places = torch.arange(first, first + x.shape[-2], dtype=torch.float64, device=x.device)
    angles = places[:, None] * speeds
    wide = at_least_float32(x)
    cos, sin = angles.cos().to(wide.dtype), angles.sin().to(wide.dtype)
    a, b = wide[..., :half], wide[..., half:]
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1).to(x.dtype)
