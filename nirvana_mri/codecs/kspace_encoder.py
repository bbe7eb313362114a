"""From measured k-space to tokens of the language model's width."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor, nn

from nirvana_mri.codecs.vit import VisionTransformer
from nirvana_mri.errors import UsageError

DECADES = 6.0  # of k-space magnitude below its peak that the encoder can see


@dataclass(frozen=True)
class KSpaceEncoderConfig:
    """Sizes of the encoder; ``backbone_width`` is the width of the language model it speaks to."""

    backbone_width: int
    patch: int = 16
    width: int = 128
    depth: int = 4
    heads: int = 4

    def __post_init__(self) -> None:
        if self.width % (4 * self.heads):
            raise UsageError(f"encoder width {self.width}; expected a multiple of 4 x {self.heads} heads")


class KSpaceEncoder(nn.Module):
    """Combined complex image and log-magnitude k-space, as 16x16 patches, to ``[begin] patch tokens [end]``."""

    def __init__(self, config: KSpaceEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.vit = VisionTransformer(3, config.patch, config.width, config.depth, config.heads)
        self.project = nn.Linear(config.width, config.backbone_width)
        self.begin = nn.Parameter(torch.randn(config.backbone_width) * 0.02)
        self.end = nn.Parameter(torch.randn(config.backbone_width) * 0.02)

    def forward(
        self, image: Complex[Tensor, "batch ny nx"], log_kspace: Float[Tensor, "batch ny nx"]
    ) -> tuple[Float[Tensor, "batch token channel"], tuple[int, int]]:
        """Tokens for the language model, and the patch grid (rows, columns) that they tile.

        ``image`` is of order one; ``log_kspace`` comes from :func:`log_magnitude`.
        """
        picture = torch.cat([torch.view_as_real(image).movedim(-1, 1), log_kspace.unsqueeze(1)], dim=1)
        grid = self.project(self.vit(picture))
        rows, columns = grid.shape[1:3]
        batch = grid.shape[0]
        ends = [end.expand(batch, 1, -1) for end in (self.begin, self.end)]
        return torch.cat([ends[0], grid.flatten(1, 2), ends[1]], dim=1), (rows, columns)


def patch_states(
    hidden: Float[Tensor, "batch token channel"], grid: tuple[int, int]
) -> Float[Tensor, "batch gy gx channel"]:
    """The language model's states at the patch positions: the first token is ``[begin]``, what follows the patches is
    not theirs.
    """
    rows, columns = grid
    return hidden[:, 1 : 1 + rows * columns].unflatten(1, (rows, columns))


def log_magnitude(kspace: Complex[Tensor, "coil ny nx"], mask: Bool[Tensor, "*mask"]) -> Float[Tensor, "ny nx"]:
    """RSS magnitude of measured k-space in decades below its peak, mapped to 0 (six decades down, or not measured) … 1.

    Depends on ratios only, so scaling the data changes nothing.
    """
    size = torch.view_as_real(kspace).square().sum(dim=(0, -1)).sqrt()
    size = torch.where(mask, size, torch.zeros((), dtype=size.dtype, device=size.device))
    share = size / size.amax()
    return 1 + share.clamp_min(10**-DECADES).log10() / DECADES
