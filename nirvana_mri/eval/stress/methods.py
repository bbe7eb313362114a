"""The methods under stress, each as a function from measured k-space to complex images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from nirvana_mri.eval.stress.case import Mask
from nirvana_mri.physics.coils import rss
from nirvana_mri.physics.fourier import ifft2c
from nirvana_mri.recon.baselines import cg_sense
from nirvana_mri.recon.model import NirvanaRecon
from nirvana_mri.recon.problem import SliceProblem, centre_crop, prepare_slice

NIRVANA, SENSE, ZERO_FILLED = "nirvana", "sense", "zero-filled"
Solver = Callable[[SliceProblem], Tensor]


@dataclass(frozen=True, eq=False)
class Restored:
    """Complex images on the scan's scale, one channel or one per coil, and the energy of a root-sum-of-squares noise
    floor that they lack.
    """

    images: Complex[Tensor, "channel ny nx"]
    floor: float

    def picture(self, crop: tuple[int, int], floor: float | None = None) -> Float[Tensor, "my mx"]:
        """The magnitude, with this noise floor or its own, cropped."""
        energy = rss(self.images).square() + (self.floor if floor is None else floor)
        return centre_crop(energy.sqrt(), crop)


Method = Callable[[Complex[Tensor, "coil ny nx"], Mask], Restored]


def solvers_of(network: NirvanaRecon) -> Mapping[str, Solver]:
    """The methods that solve through coil maps, by name: the model, and what it is compared with."""
    return {NIRVANA: lambda problem: network([problem])[0], SENSE: cg_sense}


def methods_of(solvers: Mapping[str, Solver], device: str = "cpu") -> dict[str, Method]:
    """The same as methods, and the zero-filled picture."""
    return {**{name: _through_maps(solver, device) for name, solver in solvers.items()}, ZERO_FILLED: _zero_filled}


def problem_of(kspace: Complex[Tensor, "coil ny nx"], mask: Mask, device: str = "cpu") -> SliceProblem:
    """The slice made ready as ``reconstruct`` does it, nothing cropped."""
    return prepare_slice(kspace.numpy(), mask, (kspace.shape[1], kspace.shape[2]), device)


def _through_maps(solver: Solver, device: str) -> Method:
    def restore(kspace: Tensor, mask: Mask) -> Restored:
        problem = problem_of(kspace, mask, device)
        with torch.inference_mode():
            image = solver(problem) * problem.scale
        floor = problem.noise * (problem.coils - 1) / problem.coils * problem.scale**2
        return Restored(image.cpu()[None].clone(), floor)

    return restore


def _zero_filled(kspace: Tensor, mask: Mask) -> Restored:
    zero = torch.zeros((), dtype=kspace.dtype)
    return Restored(ifft2c(torch.where(torch.from_numpy(mask), kspace, zero)), 0.0)
