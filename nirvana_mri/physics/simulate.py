"""Multi-coil k-space from a picture: coil fields, smooth phase, noise. Whatever comes from here must be stamped
"simulated".
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from nirvana_mri.errors import UsageError
from nirvana_mri.physics.coils import expand, unit_norm
from nirvana_mri.physics.fourier import fft2c

FIELD_GRID = 32  # coil fields are smooth: computed on this many points a side, then interpolated


@dataclass(frozen=True)
class Simulation:
    """How k-space is made from pictures.

    ``noise`` is the standard deviation of the complex noise in one pixel of one coil image, as a share of the volume's
    brightest pixel. ``phase`` is the range in radians of the smooth object phase (0 keeps a complex input's own).
    """

    coils: int = 8
    noise: float = 0.01
    phase: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.coils <= 64:
            raise UsageError(f"coils is {self.coils}; expected 1 to 64")
        if not 0 <= self.noise <= 1:
            raise UsageError(f"noise is {self.noise}; expected a share of the brightest pixel, 0 to 1")
        if not 0 <= self.phase <= 4 * math.pi:
            raise UsageError(f"phase is {self.phase} rad; expected 0 to 4π")


def simulate_slice(
    image: Complex[Tensor, "ny nx"], settings: Simulation, index: int = 0, slices: int = 1, peak: float | None = None
) -> Complex[Tensor, "coil ny nx"]:
    """Noisy, fully sampled k-space of one slice.

    Coils are fixed over the volume; the slice's own height among ``slices`` changes what they see. ``peak`` is the
    volume's brightest magnitude (this slice's when not given), which scales the noise. The same seed and index give
    the same bytes, in whatever order slices are made.
    """
    height = 0.6 * ((index + 0.5) / slices - 0.5)
    fields = loop_fields(settings.coils, (image.shape[-2], image.shape[-1]), settings.seed, height)
    generator = np.random.default_rng([settings.seed, index, 1])
    if settings.phase:
        # one phase for the volume: the field that causes it does not jump between slices
        turn = smooth_phase(
            (image.shape[-2], image.shape[-1]), settings.phase, np.random.default_rng([settings.seed, 2])
        )
        image = image * torch.polar(torch.ones_like(turn), turn).to(image.dtype)
    kspace = fft2c(expand(image, fields))
    brightest = float(image.abs().max()) if peak is None else peak
    sigma = settings.noise * brightest / math.sqrt(2)
    noise = generator.standard_normal((*kspace.shape, 2), dtype=np.float32)
    return kspace + sigma * torch.view_as_complex(torch.from_numpy(noise)).to(kspace)


def loop_fields(coils: int, shape: tuple[int, int], seed: int, height: float = 0.0) -> Complex[Tensor, "coil ny nx"]:
    """Receive fields of wire loops on a cylinder round the picture, by the law of Biot and Savart.

    ``height`` is the slice's place along the cylinder, in half fields of view. The RSS over the coils is 1 everywhere,
    so that the RSS picture of noiseless simulated data is the picture that went in. The places and sizes of the loops
    are drawn from the seed; by reciprocity the field is Bx − i By.
    """
    draw = np.random.default_rng([seed, 3])
    rings = 1 if coils < 8 else 2
    angles = 2 * np.pi * (np.arange(coils) / coils + draw.uniform(0, 1)) + draw.normal(0, 0.08, coils)
    distance = draw.uniform(1.25, 1.8) * (1 + draw.normal(0, 0.04, coils))
    radius = draw.uniform(0.45, 0.9) * (1 + draw.normal(0, 0.06, coils)) * (1.3 if coils < 5 else 1.0)
    along = (np.arange(coils) % rings - (rings - 1) / 2) * draw.uniform(0.4, 0.8) + draw.normal(0, 0.05, coils)
    aspect = draw.uniform(0.8, 1.25)
    grid_y, grid_x = np.meshgrid(np.linspace(-1, 1, FIELD_GRID) * aspect, np.linspace(-1, 1, FIELD_GRID), indexing="ij")
    points = np.stack([grid_x, grid_y, np.full_like(grid_x, height)], -1)
    fields = np.stack([_loop_field(points, *loop) for loop in zip(angles, distance, radius, along, strict=True)])
    planes = torch.from_numpy(np.concatenate([fields.real, fields.imag])).float()[None]
    fine = torch.nn.functional.interpolate(planes, size=shape, mode="bicubic", align_corners=True)[0]
    receiver = torch.from_numpy(draw.uniform(-math.pi, math.pi, (coils, 1, 1))).float()  # cables turn each coil's phase
    return unit_norm(torch.complex(fine[:coils], fine[coils:]) * torch.polar(torch.ones_like(receiver), receiver))


def _loop_field(points: np.ndarray, angle: float, distance: float, radius: float, along: float) -> np.ndarray:
    """Bx − i By at points ``[..., 3]`` of a round loop that faces the axis; softened near the wire."""
    outward = np.array([np.cos(angle), np.sin(angle), 0.0])
    sideways = np.array([-np.sin(angle), np.cos(angle), 0.0])
    centre = distance * outward + np.array([0, 0, along])
    turn = np.linspace(0, 2 * np.pi, 25)
    wire = centre + radius * (np.cos(turn)[:, None] * sideways + np.sin(turn)[:, None] * np.array([0, 0, 1.0]))
    middle, step = (wire[1:] + wire[:-1]) / 2, wire[1:] - wire[:-1]
    gap = points[..., None, :] - middle
    cubed = (np.square(gap).sum(-1) + 0.02) ** 1.5
    field = (np.cross(step, gap) / cubed[..., None]).sum(-2)
    return field[..., 0] - 1j * field[..., 1]


def smooth_phase(shape: tuple[int, int], span: float, draw: np.random.Generator) -> Float[Tensor, "ny nx"]:
    """A phase in radians, from a few slow waves, whose range over the picture is ``span``."""
    coarse = torch.from_numpy(draw.standard_normal((1, 1, 4, 4), dtype=np.float32))
    wave = torch.nn.functional.interpolate(coarse, size=shape, mode="bicubic", align_corners=True)[0, 0]
    extent = float(wave.max() - wave.min())
    return (wave - wave.mean()) * (span / extent) + float(draw.uniform(-math.pi, math.pi))
