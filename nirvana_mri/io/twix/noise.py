"""The noise measurement of a Siemens raw data file, on the scale of its image lines."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.io.twix import header as name
from nirvana_mri.io.twix.file import Measurement, has_flag
from nirvana_mri.io.twix.header import Protocol
from nirvana_mri.io.twix.source import line_table

MOST_SAMPLES = 1 << 18  # of each coil
SEPARATE_DWELL = 5.0  # µs, in a measurement of its own


def read_noise(
    path: Path, found: list[Measurement], chosen: Measurement, coils: int, protocol: Protocol, mdh: ModuleType
) -> NDArray[np.complex64] | None:
    """Samples ``[coil, sample]`` of the noise lines with as many coils, scaled from their bandwidth to the image's.

    None where there are none. Their sample times are those that siemens_to_ismrmrd takes them to have.
    """
    image_dwell = protocol.get(name.DWELL, 0, 1e9)  # ns
    parts: list[NDArray[np.complex64]] = []
    for measurement in found:
        is_noise = has_flag(measurement.lines, mdh, "NOISEADJSCAN") & (measurement.lines["UsedChannels"] == coils)
        if not is_noise.any():
            continue
        table = line_table(path, measurement, np.zeros(len(is_noise), bool))
        mapped = table.mapped()
        for row in np.flatnonzero(is_noise):
            line = table.line(mapped, int(row))
            if measurement is not chosen:
                dwell = SEPARATE_DWELL
            elif "ChannelId" in (measurement.lines.dtype.names or ()):  # VB, whose lines name their channel
                dwell = 1e6 / line.shape[1] / 130
            else:
                dwell = int(76800 / line.shape[1]) / 10
            scale = np.sqrt(1e3 * dwell / image_dwell) if image_dwell else 1.0
            if np.isfinite(line).all() and np.abs(line).max() < 1e18:
                parts.append((line * np.float32(scale)).astype(np.complex64))
            if sum(part.shape[1] for part in parts) >= MOST_SAMPLES:
                break
    return np.concatenate(parts, axis=1)[:, :MOST_SAMPLES] if parts else None
