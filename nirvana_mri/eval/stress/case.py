"""One fully sampled slice, and what a stress makes of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Complex, Float
from numpy.typing import NDArray
from torch import Tensor

from nirvana_mri.errors import ScanError
from nirvana_mri.physics.coils import rss
from nirvana_mri.physics.fourier import fft1c, ifft2c
from nirvana_mri.physics.masks import MASKS
from nirvana_mri.physics.noise import noise_energy
from nirvana_mri.recon.problem import centre_crop, to_hybrid
from nirvana_mri.recon.sampling import choose_sampling
from nirvana_mri.scan import Scan

Mask = NDArray[np.bool_]
FEWER_CALIBRATION = 0.32  # centre fraction times acceleration, fastMRI's: 0.08 at 4x, 0.04 at 8x


@dataclass(frozen=True)
class Asked:
    """Which samples a scan is thinned to; the fields are those of ``reconstruct``."""

    accelerate: float | None = 4.0
    mask: str = "equispaced_fraction"
    center_fraction: float = 0.08
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Sampled:
    """A slice of which everything was measured, and the samples that a method may see.

    ``kspace`` is on the scan's scale, its readout oversampling cropped. ``acquired`` is True where the scanner measured
    at all, ``mask`` (of the same rank) where the thinned scan did. ``noise`` is the standard deviation of the complex
    noise of one sample of one coil, as the corners of k-space show it (what signal is left there counts as noise).
    """

    kspace: Complex[Tensor, "coil ny nx"]
    mask: Mask
    acquired: Mask
    crop: tuple[int, int]
    noise: float
    asked: Asked = Asked()

    @property
    def target(self) -> Float[Tensor, "my mx"]:
        """The picture to find: root sum of squares of all coils."""
        return picture_of(self.kspace, self.crop)

    @property
    def measured(self) -> Complex[Tensor, "coil ny nx"]:
        """What the thinned scan holds, zero elsewhere."""
        return torch.where(torch.from_numpy(self.mask), self.kspace, torch.zeros((), dtype=self.kspace.dtype))


@dataclass(frozen=True, eq=False)
class Case:
    """A perturbed problem and how its target moves.

    A method sees ``kspace`` where ``mask`` is True and nothing else. What it makes of it is brought ``back`` as complex
    images ``[channel ny nx]``, and compared with ``target``. With ``same_floor`` the picture gets the noise floor of
    the unperturbed scan, which is the target's.
    """

    kspace: Complex[Tensor, "coil ny nx"]
    mask: Mask
    target: Float[Tensor, "my mx"]
    back: Callable[[Tensor], Tensor] | None = None
    same_floor: bool = False
    details: tuple[tuple[str, float], ...] = ()


def picture_of(kspace: Complex[Tensor, "coil ny nx"], crop: tuple[int, int]) -> Float[Tensor, "my mx"]:
    """Root sum of squares of fully sampled coils, cropped."""
    return centre_crop(rss(ifft2c(kspace)), crop)


def take_slice(scan: Scan, number: int, asked: Asked) -> Sampled:
    """Slice ``number`` of a fully sampled scan, thinned as asked.

    Raises: ScanError for a scan that is not fully sampled, or a slice with nothing in it; what ``choose_sampling``
    raises.
    """
    if not scan.fully_sampled:
        raise ScanError(
            f"{scan.name}: k-space is undersampled, and a stress test compares with what was left out; "
            "give a fully sampled scan, or none for the embedded demonstration"
        )
    kspace = torch.from_numpy(np.ascontiguousarray(scan.kspace[number]))
    if not float(kspace.abs().max()) > 0:
        raise ScanError(f"{scan.name}: slice {number} is empty; choose another with --slices")
    if scan.acquired.ndim == 1:  # whole readouts: their oversampling can go, exactly
        kspace = fft1c(to_hybrid(kspace, scan.crop[0])[0], dim=-2)
    coils, ny, nx = kspace.shape
    trimmed = replace(scan, kspace=kspace.numpy()[None])
    mask = choose_sampling(trimmed, asked.accelerate, asked.mask, asked.center_fraction, asked.seed).mask
    acquired = scan.acquired
    if mask.ndim != acquired.ndim:
        mask, acquired = (np.broadcast_to(each, (ny, nx)).copy() for each in (mask, acquired))
    crop = min(scan.crop[0], ny), min(scan.crop[1], nx)
    noise = math.sqrt(noise_energy(kspace, torch.from_numpy(acquired)) / coils)
    return Sampled(kspace, mask, acquired, crop, noise, asked)


def kind_of(asked: Asked) -> str:
    """The kind of mask asked for; fastMRI's where a file says which samples stay."""
    return asked.mask if asked.mask in MASKS else "equispaced_fraction"
