"""Parts of what a slice measured: its calibration centre, some of its samples, how far a picture is from them."""

from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor

from nirvana_mri.physics.sense import SenseOperator
from nirvana_mri.recon.problem import SliceProblem


def calibration_centre(problem: SliceProblem) -> Bool[Tensor, "*mask"]:
    """Where the calibration region lies, from which the maps came."""
    mask = problem.operator.mask
    centre = torch.zeros_like(mask)
    sizes = problem.calibration[-mask.ndim :]
    places = tuple(
        slice(n // 2 - size // 2, n // 2 - size // 2 + size) for n, size in zip(mask.shape, sizes, strict=True)
    )
    centre[places] = True
    return centre


def thinned(problem: SliceProblem, mask: Tensor) -> SliceProblem:
    """The problem as if only the samples of ``mask`` had been measured."""
    operator = SenseOperator(problem.operator.maps, mask)
    return replace(problem, operator=operator, data=operator.sample(problem.data))


def misfit(image: Tensor, problem: SliceProblem, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(predicted − measured, measured) on the samples of ``mask``, zero elsewhere: ``[coil ny nx]``."""
    operator = SenseOperator(problem.operator.maps, mask)
    measured = operator.sample(problem.data)
    return operator.forward(image) - measured, measured


def spread_evenly(count: int, most: int) -> list[int]:
    """At most ``most`` of so many slices, the middle one of each equal part."""
    parts = min(count, most)
    return [(2 * part + 1) * count // (2 * parts) for part in range(parts)]
