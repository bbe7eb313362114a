"""Which samples a reconstruction is allowed to see: what the scanner measured, less what the user asks to leave out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.errors import UsageError
from nirvana_mri.io.mask_file import load_mask
from nirvana_mri.physics.masks import MASKS, make_mask
from nirvana_mri.physics.sampling import achieved_acceleration, apply_within, is_columns
from nirvana_mri.scan import Scan


@dataclass(frozen=True, eq=False)
class Sampling:
    """The mask in force (True = measured; ``[nx]`` where whole columns are), and how it came about."""

    mask: NDArray[np.bool_]
    acceleration: float
    complete: bool
    description: dict[str, Any]


def choose_sampling(
    scan: Scan,
    accelerate: float | None,
    mask: str | Path | NDArray[np.bool_],
    center_fraction: float,
    seed: int,
) -> Sampling:
    """The scan's own sampling, thinned by a mask of a kind (with ``accelerate``), from a file, or given as an array.

    Raises UsageError for an unknown kind or a mask file together with ``accelerate``, DataError where no sample is
    left.
    """
    asked, description = _asked(scan, accelerate, mask, center_fraction, seed)
    used = scan.acquired if asked is None else apply_within(asked, scan.acquired)
    if used.ndim == 2 and is_columns(used):
        used = used[0]
    acceleration = achieved_acceleration(used, scan.acquired)
    description |= {
        "achieved_acceleration": round(acceleration, 4),
        "origin": "retrospective"
        if asked is not None
        else ("as acquired" if not scan.fully_sampled else "fully sampled"),
    }
    return Sampling(used, acceleration, asked is None and scan.fully_sampled, description)


def _asked(
    scan: Scan, accelerate: float | None, mask: str | Path | NDArray[np.bool_], center_fraction: float, seed: int
) -> tuple[NDArray[np.bool_] | None, dict[str, Any]]:
    if isinstance(mask, np.ndarray):
        return _given(mask, accelerate), {"mask": "array"}
    if str(mask) not in MASKS:
        if accelerate is not None:
            raise UsageError(
                f"mask is {str(mask)!r} together with accelerate {accelerate:g}; a mask file says all itself, "
                f"and a kind is one of {', '.join(MASKS)}"
            )
        return load_mask(mask), {"mask": f"file {Path(str(mask)).name}"}
    if accelerate is None:
        return None, {"mask": None}
    _, _, ny, nx = scan.shape
    description = {"mask": str(mask), "acceleration": accelerate, "center_fraction": center_fraction, "seed": seed}
    return make_mask(str(mask), (ny, nx), accelerate, center_fraction, seed), description


def _given(mask: NDArray[np.bool_], accelerate: float | None) -> NDArray[np.bool_]:
    if accelerate is not None:
        raise UsageError(f"a mask array together with accelerate {accelerate:g}; give one of them")
    if mask.dtype != np.bool_ or mask.ndim not in (1, 2):
        raise UsageError(f"mask is {mask.dtype} {mask.shape}; expected bool [nx] or [ny nx], True = measured")
    return mask
