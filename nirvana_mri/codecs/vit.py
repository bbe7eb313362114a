"""A small vision transformer: patches of any picture in, one vector a patch out."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class VisionTransformer(nn.Module):
    """Pre-norm transformer over square patches, with 2-D sine-cosine positions (any grid, none learned).

    Source: Dosovitskiy 2021; positions as in He 2022 (MAE).
    """

    def __init__(self, channels: int, patch: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.patch = patch
        self.embed = nn.Conv2d(channels, width, kernel_size=patch, stride=patch)
        self.blocks = nn.ModuleList(TransformerBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, picture: Float[Tensor, "batch channel ny nx"]) -> Float[Tensor, "batch gy gx width"]:
        """One vector a patch; the picture is padded with zeros, below and to the right, to whole patches."""
        below, right = (-n % self.patch for n in picture.shape[-2:])
        grid = self.embed(F.pad(picture, (0, right, 0, below))).permute(0, 2, 3, 1)
        gy, gx, width = grid.shape[1:]
        tokens = (grid + sine_cosine_positions(gy, gx, width).to(grid)).flatten(1, 2)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens).unflatten(1, (gy, gx))


class TransformerBlock(nn.Module):
    """x += attention(norm(x)); x += mlp(norm(x))."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Float[Tensor, "batch token width"]) -> Float[Tensor, "batch token width"]:
        q, k, v = self.qkv(self.attention_norm(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.out(seen)
        return x + self.mlp(self.mlp_norm(x))


def sine_cosine_positions(gy: int, gx: int, width: int) -> Float[Tensor, "gy gx width"]:
    """Where each patch lies, counted from the picture's centre: half of the channels say y, half x."""
    quarter = width // 4
    rates = torch.exp(-math.log(10_000.0) * torch.arange(quarter) / quarter)
    y = (torch.arange(gy) - gy // 2)[:, None] * rates
    x = (torch.arange(gx) - gx // 2)[:, None] * rates
    along_y = torch.cat([y.sin(), y.cos()], 1)[:, None].expand(gy, gx, 2 * quarter)
    along_x = torch.cat([x.sin(), x.cos()], 1)[None].expand(gy, gx, 2 * quarter)
    return torch.cat([along_y, along_x], -1)
