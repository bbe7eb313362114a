"""An object larger than the field of view: its parts beyond one edge of the picture lie at the other."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray as Array

EDGE = 0.02  # of the axis, at least one column
SIGNAL = 0.15  # of the object's brightness: more than blurring and ringing leave at an edge


def wrapped_share(picture: Float[Array, "ny nx"], noise_floor: float = 0.0) -> float:
    """Share of the rows with signal at both ends: at the left and the right edge of the picture.

    Signal is above ``noise_floor`` (three times) and above a part of the object's brightness: the picture's mean,
    weighted with itself, so that it does not matter how much of the picture the object fills.
    """
    if not picture.max() > 0:
        return 0.0
    width = max(1, round(EDGE * picture.shape[1]))
    brightness = float(np.average(picture, weights=picture))
    limit = max(SIGNAL * brightness, 3 * noise_floor)
    left, right = picture[:, :width].mean(axis=1), picture[:, -width:].mean(axis=1)
    return float(((left > limit) & (right > limit)).mean())
