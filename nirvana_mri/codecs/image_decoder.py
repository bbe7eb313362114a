"""From the language model's states to a complex image that agrees with the measurement."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from nirvana_mri.codecs.unet import ConditionalUNet
from nirvana_mri.errors import UsageError
from nirvana_mri.physics.consistency import weighted_consistency
from nirvana_mri.physics.sense import SenseOperator


@dataclass(frozen=True)
class ImageDecoderConfig:
    """Sizes of the decoder: ``cascades`` of a U-Net with its own weights and a data-consistency step of so many
    conjugate gradients (0, as an ablation: none).
    """

    backbone_width: int
    cascades: int = 5
    widths: tuple[int, int, int] = (48, 80, 128)
    token_width: int = 32
    consistency_steps: int = 6

    def __post_init__(self) -> None:
        if self.cascades < 1 or self.consistency_steps < 0:
            raise UsageError(
                f"{self.cascades} cascades of {self.consistency_steps} consistency steps; expected at least one "
                "cascade, and steps from 0 up"
            )


@dataclass(frozen=True, eq=False)
class Measurement:
    """What the decoder must agree with, for one slice, of order one.

    ``adjoint`` is Aᴴy ``[ny nx]``; ``certainty`` ``[ny nx]`` says where the coil maps hold; ``sigma`` is the standard
    deviation of the complex noise of one sample.
    """

    operator: SenseOperator
    adjoint: Complex[Tensor, "ny nx"]
    certainty: Float[Tensor, "ny nx"]
    sigma: float


class ImageDecoder(nn.Module):
    """An unrolled network: each cascade lets a U-Net correct the image and then asks the data (Aggarwal 2019, MoDL).

    The weight of the prior against the data is learned for each cascade, as a power of the noise level.
    """

    def __init__(self, config: ImageDecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.norm = nn.LayerNorm(config.backbone_width)
        self.reduce = nn.Linear(config.backbone_width, config.token_width)
        self.cascades = nn.ModuleList(
            ConditionalUNet(4, 2, config.widths, config.token_width) for _ in range(config.cascades)
        )
        self.log_prior = nn.Parameter(torch.full((config.cascades,), math.log(0.05)))
        self.noise_power = nn.Parameter(torch.zeros(config.cascades))

    def forward(
        self,
        start: Complex[Tensor, "batch ny nx"],
        states: Float[Tensor, "batch gy gx channel"],
        measurements: Sequence[Measurement],
    ) -> Complex[Tensor, "batch ny nx"]:
        """The reconstructed complex images, on the intensity scale of ``start`` and the measurements (of order one)."""
        tokens = self.reduce(self.norm(states)).permute(0, 3, 1, 2)
        known = self._known(start, measurements)
        image = start
        for cascade, unet in enumerate(self.cascades):
            seen = torch.cat([torch.view_as_real(image).movedim(-1, 1), known], dim=1)
            image = image + _complex(unet(seen, tokens))
            image = torch.stack(
                [
                    self._consistent(one, measurement, cascade)
                    for one, measurement in zip(image, measurements, strict=True)
                ]
            )
        return image

    def _consistent(self, image: Tensor, measurement: Measurement, cascade: int) -> Tensor:
        if self.config.consistency_steps == 0:
            return image
        level = math.log(max(measurement.sigma, 1e-4) / 0.03)
        weight = torch.exp(self.log_prior[cascade] + self.noise_power[cascade] * level)
        return weighted_consistency(
            image, measurement.adjoint, measurement.operator, weight, self.config.consistency_steps
        )

    @staticmethod
    def _known(start: Tensor, measurements: Sequence[Measurement]) -> Float[Tensor, "batch 2 ny nx"]:
        """What no cascade changes: where the maps hold, and how loud the noise is."""
        planes = [torch.stack([one.certainty, torch.full_like(one.certainty, 10 * one.sigma)]) for one in measurements]
        return torch.stack(planes).to(start.real.dtype)


def _complex(planes: Float[Tensor, "batch 2 ny nx"]) -> Complex[Tensor, "batch ny nx"]:
    return torch.view_as_complex(planes.movedim(1, -1).contiguous())
