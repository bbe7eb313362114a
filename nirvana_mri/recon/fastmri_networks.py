"""fastMRI's two published networks, so that their weights load by file: U-Net (Zbontar 2018) and E2E-VarNet (Sriram 2020).

The same arithmetic and the same parameter names as in the fastmri package (MIT), which tests hold them to. They are here
because that package cannot be a dependency (docs/decisions/0002).
"""  # noqa: E501

import math
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Complex, Float
from torch import Tensor, nn

from nirvana_mri.physics.coils import rss
from nirvana_mri.physics.fourier import fft2c, ifft2c

SLOPE = 0.2  # of the leaky rectifier
MULTIPLE = 16  # pixels a side that VarNet's U-Nets are padded to


class ConvBlock(nn.Module):
    """Twice: 3x3 convolution, instance norm, leaky rectifier. The places 3 and 7 are dropout's, which is over."""

    def __init__(self, size_in: int, size_out: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for size in (size_in, size_out):
            layers += [
                nn.Conv2d(size, size_out, 3, padding=1, bias=False),
                nn.InstanceNorm2d(size_out),
                nn.LeakyReLU(SLOPE),
                nn.Identity(),
            ]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.layers(x))


class UpBlock(nn.Module):
    """Transposed convolution to twice the size, instance norm, leaky rectifier."""

    def __init__(self, size_in: int, size_out: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(size_in, size_out, 2, stride=2, bias=False),
            nn.InstanceNorm2d(size_out),
            nn.LeakyReLU(SLOPE),
        )

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.layers(x))


class FastMRIUnet(nn.Module):
    """fastMRI's U-Net; ``chans`` in the first of ``pools`` + 1 levels."""

    def __init__(self, size_in: int, size_out: int, chans: int, pools: int) -> None:
        super().__init__()
        sizes = [chans * 2**level for level in range(pools + 1)]
        self.down_sample_layers = nn.ModuleList(
            ConvBlock(before, after) for before, after in zip([size_in, *sizes], sizes[:-1], strict=False)
        )
        self.conv = ConvBlock(sizes[-2], sizes[-1])
        self.up_transpose_conv = nn.ModuleList(UpBlock(2 * size, size) for size in sizes[-2::-1])
        ups: list[nn.Module] = [ConvBlock(2 * size, size) for size in sizes[-2::-1]]
        ups[-1] = nn.Sequential(ups[-1], nn.Conv2d(chans, size_out, 1))
        self.up_conv = nn.ModuleList(ups)

    def forward(self, x: Float[Tensor, "batch channel ny nx"]) -> Float[Tensor, "batch channel_out ny nx"]:
        kept = []
        for down in self.down_sample_layers:
            x = down(x)
            kept.append(x)
            x = F.avg_pool2d(x, 2)
        x = self.conv(x)
        for up, conv in zip(self.up_transpose_conv, self.up_conv, strict=True):
            beside = kept.pop()
            x = up(x)
            odd = [beside.shape[dim] - x.shape[dim] for dim in (-1, -2)]
            x = F.pad(x, (0, odd[0], 0, odd[1]), "reflect") if any(odd) else x
            x = conv(torch.cat([x, beside], dim=1))
        return x


class NormUnet(nn.Module):
    """The U-Net on complex images, real and imaginary part as channels, each brought to mean 0 and deviation 1."""

    def __init__(self, chans: int, pools: int) -> None:
        super().__init__()
        self.unet = FastMRIUnet(2, 2, chans, pools)

    def forward(self, image: Complex[Tensor, "batch ny nx"]) -> Complex[Tensor, "batch ny nx"]:
        x = torch.view_as_real(image).movedim(-1, 1)
        mean, deviation = x.mean((2, 3), keepdim=True), x.flatten(2).std(2)[..., None, None]
        ny, nx = x.shape[-2:]
        (top, bottom), (left, right) = (_padding(n) for n in (ny, nx))
        x = self.unet(F.pad((x - mean) / deviation, (left, right, top, bottom)))
        x = x[..., top : top + ny, left : left + nx] * deviation + mean
        return torch.view_as_complex(x.movedim(1, -1).contiguous())


def _padding(n: int) -> tuple[int, int]:
    more = ((n - 1) | (MULTIPLE - 1)) + 1 - n
    return more // 2, math.ceil(more / 2)


class SensitivityModel(nn.Module):
    """Coil maps from the calibration lines, coil by coil, of unit norm."""

    def __init__(self, chans: int, pools: int) -> None:
        super().__init__()
        self.norm_unet = NormUnet(chans, pools)

    def forward(
        self, kspace: Complex[Tensor, "coil ny nx"], mask: Bool[Tensor, " nx"]
    ) -> Complex[Tensor, "coil ny nx"]:
        maps = self.norm_unet(ifft2c(torch.where(calibration_lines(mask), kspace, 0)))
        return maps / rss(maps)


def calibration_lines(mask: Bool[Tensor, " nx"]) -> Bool[Tensor, " nx"]:
    """As many columns about the centre as are measured without a gap to its nearer side, as fastMRI counts them."""
    nx, centre = len(mask), len(mask) // 2
    # argmin: the first that is not measured; 0 where all are.
    left = int(mask[:centre].flip(0).int().argmin())
    right = int(mask[centre:].int().argmin())
    lines = max(2 * min(left, right), 1)
    first = (nx - lines + 1) // 2
    chosen = torch.zeros_like(mask)
    chosen[first : first + lines] = True
    return chosen


class VarNetBlock(nn.Module):
    """One step: k-space minus its disagreement with the data minus the U-Net's correction."""

    def __init__(self, chans: int, pools: int) -> None:
        super().__init__()
        self.model = NormUnet(chans, pools)
        self.dc_weight = nn.Parameter(torch.ones(1))

    def forward(self, current: Tensor, measured: Tensor, mask: Tensor, maps: Tensor) -> Tensor:
        disagreement = torch.where(mask, current - measured, 0) * self.dc_weight
        image = (ifft2c(current) * maps.conj()).sum(0)
        return current - disagreement - fft2c(self.model(image[None]) * maps)


class FastMRIVarNet(nn.Module):
    """fastMRI's end-to-end variational network, for one slice at a time."""

    def __init__(self, cascades: int, chans: int, pools: int, sens_chans: int, sens_pools: int) -> None:
        super().__init__()
        self.sens_net = SensitivityModel(sens_chans, sens_pools)
        self.cascades = nn.ModuleList(VarNetBlock(chans, pools) for _ in range(cascades))

    def forward(self, kspace: Complex[Tensor, "coil ny nx"], mask: Bool[Tensor, " nx"]) -> Float[Tensor, "ny nx"]:
        """The root sum of squares of the restored coil images; ``kspace`` is zero where ``mask`` is False."""
        maps = self.sens_net(kspace, mask)
        current = kspace
        for cascade in self.cascades:
            current = cascade(current, kspace, mask, maps)
        return rss(ifft2c(current))
