"""From measured k-space to tokens of the language model's width."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor, nn

from nirvana_mri.codecs.label_map import LabelMap, Speaker
from nirvana_mri.codecs.vit import STEMS, VisionTransformer
from nirvana_mri.errors import UsageError

DECADES = 6.0  # of k-space magnitude below its peak that the encoder can see


@dataclass(frozen=True)
class KSpaceEncoderConfig:
    """Sizes of the encoder; ``backbone_width`` is the width of the language model it speaks to.

    ``stem`` says how patches become vectors (``codecs.vit``). An encoder of ``labels`` looks for each of them in
    ``cells`` x ``cells`` parts of the picture, and tells of them in ``told`` tokens.
    """

    backbone_width: int
    patch: int = 16
    width: int = 128
    depth: int = 4
    heads: int = 4
    stem: str = "linear"
    labels: int = 0
    cells: int = 16
    told: int = 8

    def __post_init__(self) -> None:
        if self.width % (4 * self.heads):
            raise UsageError(f"encoder width {self.width}; expected a multiple of 4 x {self.heads} heads")
        if self.stem not in STEMS:
            raise UsageError(f"encoder stem {self.stem!r}; expected one of {', '.join(STEMS)}")
        if self.stem == "convolutions" and self.patch & (self.patch - 1):
            raise UsageError(f"encoder patch {self.patch}; a stem of convolutions halves it, expected a power of two")
        if self.labels < 0 or min(self.cells, self.told) < 1:
            raise UsageError(
                f"encoder of {self.labels} labels, {self.cells} cells, {self.told} tokens; expected 0 or more, then at "
                "least 1"
            )


class KSpaceEncoder(nn.Module):
    """Combined complex image and log-magnitude k-space, as 16x16 patches, to ``[begin] patch tokens [end]``.

    One that knows labels also has a ``sight``, which makes a map of them from patches, and a ``speaker``, which makes a
    few tokens of such a map: a small language model learns sooner to say what these tell than what all patches show.
    """

    def __init__(self, config: KSpaceEncoderConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.vit = VisionTransformer(3, config.patch, width, config.depth, config.heads, config.stem)
        self.project = nn.Linear(width, config.backbone_width)
        self.begin = nn.Parameter(torch.randn(config.backbone_width) * 0.02)
        self.end = nn.Parameter(torch.randn(config.backbone_width) * 0.02)
        if config.labels:
            self.sight = LabelMap(width, config.patch, config.labels, config.cells)
            self.speaker = Speaker(config.labels, config.cells, config.told, config.backbone_width)

    def forward(
        self, image: Complex[Tensor, "batch ny nx"], log_kspace: Float[Tensor, "batch ny nx"]
    ) -> tuple[Float[Tensor, "batch token channel"], tuple[int, int]]:
        """Tokens, and the grid (rows, columns) of the patches among them.

        ``image`` is of order one; ``log_kspace`` comes from :func:`log_magnitude`.
        """
        patches = self.patches(image, log_kspace)
        return self.tokens(patches), (patches.shape[1], patches.shape[2])

    def patches(
        self, image: Complex[Tensor, "batch ny nx"], log_kspace: Float[Tensor, "batch ny nx"]
    ) -> Float[Tensor, "batch gy gx width"]:
        """What the transformer makes of each patch; arguments as for :meth:`forward`."""
        picture = torch.cat([torch.view_as_real(image).movedim(-1, 1), log_kspace.unsqueeze(1)], dim=1)
        found: Tensor = self.vit(picture)
        return found

    def tokens(self, patches: Float[Tensor, "batch gy gx width"]) -> Float[Tensor, "batch token channel"]:
        """Every patch as a token, between the marks of begin and end."""
        begin, end = (mark.expand(len(patches), 1, -1) for mark in (self.begin, self.end))
        return torch.cat([begin, self.project(patches).flatten(1, 2), end], dim=1)


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
