"""The noise measurement of an ISMRMRD file, on the scale of its k-space."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.io.header import Header
from nirvana_mri.io.ismrmrd.source import LineFile

LARGEST_NOISE = 1e18  # whose square single precision can hold
MOST_SAMPLES = 1 << 22  # of all coils: far beyond what a covariance needs


def read_noise(
    file: LineFile, noise: NDArray[Any], lines: NDArray[Any], times: int, header: Header
) -> tuple[NDArray[np.complex64] | None, list[str]]:
    """(samples ``[coil, sample]``, notes) of the lines ``noise``; None where there are none that can be used.

    A sample's noise grows with the square root of the bandwidth, one over the dwell time, and falls with that of
    the number of averages, ``times`` (0: not alike everywhere, then not counted).
    """
    if not len(noise):
        return None, []
    coils = int(lines["channels"][0])
    usable = (noise["channels"] == coils) & (noise["samples"] > 0)
    usable &= noise["length"] == 2 * noise["channels"].astype(np.int64) * noise["samples"]
    if not usable.any():
        return None, [f"the noise measurement is not used: it has other coils than the {coils} of the picture"]
    mine = noise[usable]
    mine = mine[mine["dwell"] == mine["dwell"][0]] if np.isfinite(mine["dwell"][0]) else mine
    enough = np.cumsum(mine["samples"].astype(np.int64) * coils) <= MOST_SAMPLES
    enough[0] = True
    samples = np.concatenate([values for _, values in file.samples(mine[enough])], axis=1)
    if not (np.abs(samples) < LARGEST_NOISE).all() or not samples.any(axis=1).all():
        return None, ["the noise measurement is not used: a coil of it is zero, or not finite, or beyond 1e18"]
    scale = _dwell_ratio(float(mine["dwell"][0]), float(lines["dwell"][0])) / (header.noise_bandwidth or 1.0)
    return (samples * np.float32(math.sqrt(max(scale, 1e-6) / max(times, 1)))).astype(np.complex64), []


def _dwell_ratio(noise: float, picture: float) -> float:
    """Dwell time of the noise over that of the picture; 1 where one of them is not told."""
    known = math.isfinite(noise) and math.isfinite(picture) and 0 < noise < 1e6 and 0 < picture < 1e6
    return noise / picture if known else 1.0
