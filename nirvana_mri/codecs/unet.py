"""A U-Net on half-resolution features, conditioned by tokens."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class ConditionalUNet(nn.Module):
    """Correct a picture: in and out at full resolution, all convolutions at 1/2, 1/4 and 1/8 of it.

    Pixels are first folded 2x2 into channels, which on a CPU costs a quarter of the memory traffic of full-resolution
    convolutions. Token features enter twice: their mean scales and shifts the first level, their grid is added at the
    coarsest. Source: Ronneberger 2015; folding as in Zhang 2018 (FFDNet).
    """

    def __init__(self, channels_in: int, channels_out: int, widths: tuple[int, int, int], token_width: int) -> None:
        super().__init__()
        fine, middle, coarse = widths
        self.enter = nn.Conv2d(4 * channels_in, fine, 3, padding=1)
        self.modulate = nn.Linear(token_width, 2 * fine)
        self.fine_down = ResidualBlock(fine)
        self.to_middle = nn.Conv2d(fine, middle, 2, stride=2)
        self.middle_down = ResidualBlock(middle)
        self.to_coarse = nn.Conv2d(middle, coarse, 2, stride=2)
        self.place = nn.Conv2d(token_width, coarse, 1)
        self.bottom = nn.Sequential(ResidualBlock(coarse), ResidualBlock(coarse))
        self.from_coarse = nn.ConvTranspose2d(coarse, middle, 2, stride=2)
        self.middle_up = ResidualBlock(middle)
        self.from_middle = nn.ConvTranspose2d(middle, fine, 2, stride=2)
        self.fine_up = ResidualBlock(fine)
        self.leave = nn.Conv2d(fine, 4 * channels_out, 3, padding=1)
        for parameter in (*self.modulate.parameters(), *self.leave.parameters()):
            nn.init.zeros_(parameter)

    def forward(
        self,
        picture: Float[Tensor, "batch channel ny nx"],
        tokens: Float[Tensor, "batch width gy gx"],
    ) -> Float[Tensor, "batch out ny nx"]:
        """``tokens`` tile the picture in 16x16 patches; any size, padded by its edge values inside and cut again."""
        ny, nx = picture.shape[-2:]
        padded = F.pad(picture, (0, -nx % 8, 0, -ny % 8), mode="replicate")
        scale, shift = self.modulate(tokens.mean(dim=(-2, -1)))[..., None, None].chunk(2, dim=1)
        fine = self.fine_down(self.enter(F.pixel_unshuffle(padded, 2)) * (1 + scale) + shift)
        middle = self.middle_down(self.to_middle(fine))
        coarse = self.to_coarse(middle)
        grid = F.interpolate(self.place(tokens), scale_factor=2, mode="nearest")
        coarse = self.bottom(coarse + grid[..., : coarse.shape[-2], : coarse.shape[-1]])
        middle = self.middle_up(self.from_coarse(coarse) + middle)
        fine = self.fine_up(self.from_middle(middle) + fine)
        return F.pixel_shuffle(self.leave(fine), 2)[..., :ny, :nx]


class ResidualBlock(nn.Module):
    """x += conv(relu(conv(x))); no norm, which would erase intensity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Float[Tensor, "batch width ny nx"]) -> Float[Tensor, "batch width ny nx"]:
        return x + self.second(torch.relu(self.first(x)))
