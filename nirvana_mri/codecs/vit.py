"""A small vision transformer: patches of any picture in, one vector a patch out."""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

STEMS = ("linear", "convolutions")
FIRST_WIDTH = 16  # of a stem of convolutions; it doubles where the picture is halved


class VisionTransformer(nn.Module):
    """Pre-norm transformer over square patches, with 2-D sine-cosine positions (any grid, none learned).

    ``stem`` says how a patch becomes a vector: by one linear map, or by convolutions, which see small things sooner.

    Source: Dosovitskiy 2021; positions as in He 2022 (MAE); convolutions as in Xiao 2021.
    """

    def __init__(self, channels: int, patch: int, width: int, depth: int, heads: int, stem: str = "linear") -> None:
        super().__init__()
        self.patch = patch
        self.embed = (
            convolutional_stem(channels, patch, width)
            if stem == "convolutions"
            else nn.Conv2d(channels, width, kernel_size=patch, stride=patch)
        )
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


def convolutional_stem(channels: int, patch: int, width: int) -> nn.Sequential:
    """3x3 convolutions that halve the picture until a pixel is a patch; ``patch`` is a power of two."""
    widths = [min(FIRST_WIDTH << halvings, width) for halvings in range(patch.bit_length())]
    layers = [_convolution(channels, widths[0])]
    for before, after in pairwise(widths):
        layers += [_convolution(before, after, stride=2), _convolution(after, after)]
    return nn.Sequential(*layers[:-1] if patch > 1 else layers, nn.Conv2d(widths[-1], width, kernel_size=1))


def _convolution(before: int, after: int, stride: int = 1) -> nn.Sequential:
    kernel = nn.Conv2d(before, after, kernel_size=3, stride=stride, padding=1)
    return nn.Sequential(kernel, nn.GroupNorm(math.gcd(8, after), after), nn.GELU())


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
