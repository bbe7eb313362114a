"""One slice with its strength dial, for notebooks: solved once, slid at will."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from nirvana_mri.errors import UsageError
from nirvana_mri.recon.baselines import cg_sense
from nirvana_mri.recon.dial import Dial
from nirvana_mri.recon.pipeline import Model, as_loaded, slice_numbers
from nirvana_mri.recon.problem import SliceProblem, prepare_slice, whitening_of
from nirvana_mri.recon.sampling import choose_sampling
from nirvana_mri.recon.work import named
from nirvana_mri.scan import Scan


@dataclass(frozen=True, eq=False)
class SliceDial:
    """``at(strength)`` is the picture that ``reconstruct(…, strength=strength)`` makes of the slice ``number``."""

    number: int
    model_sha256: str
    _problem: SliceProblem = field(repr=False)
    _dial: Dial = field(repr=False)

    def at(self, strength: float, combine: str = "rss") -> NDArray[np.float32]:
        """float32 magnitudes ``[ny, nx]`` on the scan's intensity scale, in milliseconds: 0 is CG-SENSE, 1 the model.

        Raises: UsageError for a strength that is not from 0 to 1.
        """
        return np.ascontiguousarray(self._problem.finish(self._dial.at(strength), combine).cpu().numpy())


@torch.inference_mode()
def strength_dial(
    scan: Scan,
    number: int = 0,
    model: Model | None = None,
    accelerate: float | None = None,
    mask: str | Path | NDArray[np.bool_] = "equispaced_fraction",
    center_fraction: float = 0.08,
    seed: int = 0,
    *,
    prewhiten: bool = True,
    device: str = "cpu",
) -> SliceDial:
    """Solve one slice by the model and by CG-SENSE, once; the dial between them then costs nothing to turn.

    Arguments and errors as for :func:`~nirvana_mri.recon.pipeline.reconstruct`; UsageError also for a scan that is
    complete, which leaves nothing to restore.
    """
    slice_numbers(scan, [number])
    sampling = choose_sampling(scan, accelerate, mask, center_fraction, seed)
    if sampling.complete:
        raise UsageError("the scan is complete, and every strength gives one picture; add accelerate")
    loaded = as_loaded(model, device)
    white = whitening_of(scan, device) if prewhiten else None
    with named(number):
        problem = prepare_slice(scan.kspace[number], sampling.mask, scan.crop, device, white)
    dial = Dial.between(loaded.model([problem])[0], cg_sense(problem), problem)
    return SliceDial(number, loaded.sha256, problem, dial)
