"""Trust, per scan: the residual on withheld lines, what was invented, and error bars, in a few spread slices."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nirvana_mri.physics.sampling import calibration_region
from nirvana_mri.recon.errorbars import MUST_MATCH, PROMISE, CalibratedBars, error_scale, shipped_bars
from nirvana_mri.recon.nullspace import null_space
from nirvana_mri.recon.problem import SliceProblem, centre_crop
from nirvana_mri.recon.split import spread_evenly
from nirvana_mri.recon.withheld import Residual, Solver, miss, residual_of
from nirvana_mri.recon.work import Work
from nirvana_mri.volume import Volume

MOST_SLICES = 3  # that are looked at, spread evenly over those reconstructed
COMPLETE = "not measured: the scan is fully sampled, and the plain coil combination predicts nothing"
ZERO_FILLED = "not defined: zero filling predicts zeros for what it is not shown, whatever was measured"
FOREIGN = "not measured: this network gives magnitudes alone, which predict no samples"
ADAPTED = "not measured: the adapted codecs have learned from the very lines that would be withheld"


@dataclass(frozen=True, eq=False)
class Trust:
    """What can be said of one reconstruction, from ``slices`` of it.

    ``maps`` holds pictures float32 ``[slice, ny, nx]`` of those: ``invented`` (see :class:`NullSpace`), ``error_scale``
    (see :func:`error_scale`) and, where bars were given, ``error_bar``, ± so much on the picture's scale.
    """

    residual: Residual
    null_space_fraction: float | None
    slices: tuple[int, ...] = ()
    error_bars: dict[str, Any] | None = None
    maps: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, without the maps."""
        return {
            "residual_over_noise": self.residual.value,
            "residual": self.residual.as_dict(),
            "null_space_fraction": self.null_space_fraction,
            "slices": list(self.slices),
            "error_bars": self.error_bars,
        }


def trusted(head: Volume, work: Work, bars: CalibratedBars | str | None, seed: int) -> Volume:
    """The head of a volume with what can be said of how far to trust what ``work`` makes: in the provenance as
    ``trust``, and as maps. ``bars`` may be SHIPPED: those in the package that fit.
    """
    made = head.provenance
    reasons = (
        (COMPLETE, made["applied"] != made["method"]),
        (FOREIGN, work.peer is not None),
        (ZERO_FILLED, work.solver is None),
        (ADAPTED, bool((made.get("adaptation") or {}).get("kept"))),
    )
    why = next((reason for reason, holds in reasons if holds), None)
    protocol = {key: made.get(key) for key in MUST_MATCH}
    protocol["acceleration"] = made["sampling"].get("achieved_acceleration")
    numbers = [head.slices[place] for place in spread_evenly(len(head.slices), MOST_SLICES)]
    has_maps = bool(work.mask[calibration_region(work.mask)[-work.mask.ndim :]].size)
    can = work.peer is None and (has_maps or work.solver is not None)
    chosen = shipped_bars(protocol) if isinstance(bars, str) else bars
    found = measure(work.answers(numbers if can else []), work.solver, why, seed, chosen, protocol)
    return replace(
        head,
        provenance={**made, "trust": found.as_dict()},
        maps=found.maps,
        warnings=(*head.warnings, *found.warnings),
    )


@torch.inference_mode()
def measure(
    answers: Iterable[tuple[int, SliceProblem, Tensor]],
    solver: Solver | None,
    undefined: str | None = None,
    seed: int = 0,
    bars: CalibratedBars | None = None,
    protocol: dict[str, Any] | None = None,
) -> Trust:
    """Trust in these answers (slice number, problem, complex image) of ``solver``; None is the plain coil combination.

    ``undefined`` says why there is no residual, where there is none. ``protocol`` says how the reconstruction is made,
    for ``bars`` to be compared with. Raises: UsageError for bars of another method.
    """
    notes = bars.check(protocol or {}) if bars else ()
    slices, misses, judged = [], [], []
    invented, total = 0.0, 0.0
    shares, scales = [], []
    for number, problem, image in answers:
        slices.append(number)
        space = null_space(problem, image)
        energy = float(image.abs().square().sum()) * problem.scale**2
        invented, total = invented + space.fraction * energy, total + energy
        shares.append(centre_crop(space.share, problem.crop).cpu().numpy())
        scales.append(error_scale(problem, space).cpu().numpy())
        if undefined is None and solver is not None and (found := miss(problem, solver, (seed, number))):
            misses.append(found)
            judged.append(number)
    residual = Residual.undefined(undefined) if undefined else residual_of(misses, judged, seed)
    if not slices:
        return Trust(residual, None)
    maps = {"invented": _stack(shares), "error_scale": _stack(scales)}
    told = None
    if bars and residual.value is not None:
        maps["error_bar"] = bars.half_widths(maps["error_scale"], residual.value)
        told = _told(bars, residual.value)
    elif bars:
        notes += (f"no error bars: the residual that scales them is {residual.sentence}",)
    fraction = invented / total if total else 0.0
    return Trust(residual, fraction, tuple(slices), told, maps, notes)


def _told(bars: CalibratedBars, residual: float) -> dict[str, Any]:
    return {
        "level": bars.level,
        "quantile": bars.quantile,
        "subjects": bars.subjects,
        "residual_median": bars.residual_median,
        "widened": residual / bars.residual_median,
        "protocol": bars.protocol,
        "promise": PROMISE,
    }


def _stack(pictures: list[NDArray[Any]]) -> NDArray[np.float32]:
    return np.stack(pictures).astype(np.float32)
