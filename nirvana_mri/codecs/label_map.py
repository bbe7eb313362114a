"""What an encoder sees of each label, on a coarse grid of the picture, and how it is told to a language model."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

FINE = 4  # places along a patch's side, each with its own likelihood
RARE = -4.6  # logit of a likelihood of 1 %: what is assumed before anything was learned
SPEAKER_WIDTH = 512
LOUDNESS = 0.3  # of tokens as drawn: near that of words


class LabelMap(nn.Module):
    """Patches to the likelihood of each label in each cell of ``cells`` x ``cells`` that the picture is cut into."""

    def __init__(self, width: int, patch: int, labels: int, cells: int) -> None:
        super().__init__()
        self.pixels = patch / FINE
        self.labels, self.cells = labels, cells
        self.read = nn.Linear(width, labels * FINE**2)
        nn.init.constant_(self.read.bias, RARE)

    def forward(
        self, patches: Float[Tensor, "batch gy gx width"], matrix: tuple[int, int], crop: tuple[int, int]
    ) -> Float[Tensor, "batch label cell cell"]:
        """Logits. ``matrix`` is (ny, nx) of what the patches show, ``crop`` of its centre that the cells divide."""
        fine = F.pixel_shuffle(self.read(patches).movedim(-1, 1), FINE)
        rows, columns = (self._window(whole, part) for whole, part in zip(matrix, crop, strict=True))
        return F.adaptive_avg_pool2d(fine[:, :, rows, columns], self.cells)

    def _window(self, whole: int, part: int) -> slice:
        first = round((whole - part) / 2 / self.pixels)
        return slice(first, first + max(1, round(part / self.pixels)))


class Speaker(nn.Module):
    """A map of labels to the few tokens by which a language model is told of it.

    It sees the map, and for each label the greatest likelihood in each row and in each column.
    """

    def __init__(self, labels: int, cells: int, tokens: int, backbone_width: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.layers = nn.Sequential(
            nn.Linear(labels * cells * (cells + 2), SPEAKER_WIDTH),
            nn.GELU(),
            nn.Linear(SPEAKER_WIDTH, SPEAKER_WIDTH),
            nn.GELU(),
            nn.Linear(SPEAKER_WIDTH, tokens * backbone_width),
        )

    def forward(self, likelihoods: Float[Tensor, "batch label cell cell"]) -> Float[Tensor, "batch token channel"]:
        """``likelihoods`` are from 0 to 1."""
        seen = torch.cat(
            [likelihoods.flatten(1) / 2, likelihoods.amax(2).flatten(1), likelihoods.amax(3).flatten(1)], 1
        )
        return LOUDNESS * self.layers(seen).unflatten(1, (self.tokens, -1))
