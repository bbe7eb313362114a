"""How sharp the target's edges still are in a reconstruction."""

import numpy as np
from skimage.filters import scharr

from nirvana_mri.eval.metrics import Pictures, comparable

EDGES = 95.0  # percent of the volume's pixels that are no edge


def edge_sharpness(target: Pictures, prediction: Pictures) -> float | None:
    """Gradient of the prediction over that of the target, where the target has its edges; no unit.

    Scharr gradient magnitudes of each slice, summed over the 5 % of the volume's pixels where the target's are
    largest. 1 is as sharp as the target; below is blurred, above is sharpened, or noise that lies on the edges. None
    where the target has no edge. Takes volumes [slice ny nx] of one size.
    """
    wanted, found = (np.stack([scharr(p) for p in volume]) for volume in comparable(target, prediction))
    edges = wanted >= np.percentile(wanted, EDGES)
    total = float(wanted[edges].sum(dtype=np.float64))
    return float(found[edges].sum(dtype=np.float64)) / total if total > 0 else None
