"""The few numbers that are taken from a Siemens text header; all else, names and dates among it, stays in the file."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

# Names in the ASCCONV protocol.
BASE, LINES, PARTITIONS = "sKSpace.lBaseResolution", "sKSpace.lPhaseEncodingLines", "sKSpace.lPartitions"
DIMENSION, TRAJECTORY, IMAGES = "sKSpace.ucDimension", "sKSpace.ucTrajectory", "sKSpace.lImagesPerSlab"
PHASE_OVER, SLICE_OVER = "sKSpace.dPhaseOversamplingForDialog", "sKSpace.dSliceOversamplingForDialog"
THICKNESS, PHASE_FOV, READ_FOV = (
    f"sSliceArray.asSlice[0].{name}" for name in ("dThickness", "dPhaseFOV", "dReadoutFOV")
)
BANDS, FIELD = "sSliceAcceleration.lMultiBandFactor", "sProtConsistencyInfo.flNominalB0"
REPETITION, ECHO, FLIP, DWELL = "alTR[0]", "alTE[0]", "adFlipAngleDegree[0]", "sRXSPEC.alDwellTime[0]"
PROTOCOL = (
    *(BASE, LINES, PARTITIONS, DIMENSION, TRAJECTORY, IMAGES, PHASE_OVER, SLICE_OVER, THICKNESS, PHASE_FOV, READ_FOV),
    *(BANDS, FIELD, REPETITION, ECHO, FLIP, DWELL),
)
# Names in the XProtocol.
REGRID_MODE = "alRegridMode"
REGRID_TIMES = (  # µs
    *("alRegridRampupTime", "alRegridFlattopTime", "alRegridRampdownTime"),
    *("alRegridDelaySamplesTime", "aflRegridADCDuration"),
)
OVERSAMPLING = "flReadoutOSFactor"
_NUMBER = rb"-?(?:0x[0-9A-Fa-f]{1,8}|[0-9]{1,15}(?:\.[0-9]{0,20})?(?:[eE][-+]?[0-9]{1,3})?)"


@dataclass(frozen=True)
class Protocol:
    """The allow-listed numbers by name: the first of each that is finite."""

    values: dict[str, float] = field(default_factory=dict)

    def get(self, name: str, low: float, high: float) -> float | None:
        """The value where it lies within (low, high], else None."""
        value = self.values.get(name)
        return value if value is not None and low < value <= high else None

    def count(self, name: str, high: int) -> int | None:
        """The value where it is a whole number from 1 to ``high``, else None."""
        value = self.get(name, 0, high)
        return int(value) if value is not None and value.is_integer() else None


def read_protocol(header: bytes) -> Protocol:
    """The numbers of `PROTOCOL`, `REGRID_TIMES` and `OVERSAMPLING` that a header holds."""
    values: dict[str, float] = {}
    names = b"|".join(re.escape(name.encode()) for name in PROTOCOL)
    line = rb"(?:^|\n)(" + names + rb")[ \t]{0,20}=[ \t]{0,20}(" + _NUMBER + rb")(?=[ \t\r\n])"
    for found in re.finditer(line, header):
        values.setdefault(found[1].decode(), _number(found[2]))
    names = b"|".join(name.encode() for name in (REGRID_MODE, *REGRID_TIMES, OVERSAMPLING))
    pattern = (
        rb'<Param(?:Long|Double)\."(' + names + rb')">\s{0,40}\{\s{0,40}(?:<Precision>\s{0,9}[0-9]{1,3})?\s{0,40}('
    )
    for found in re.finditer(pattern + _NUMBER + rb")(?=[\s}])", header):
        values.setdefault(found[1].decode(), _number(found[2]))
    return Protocol({name: value for name, value in values.items() if math.isfinite(value)})


def _number(text: bytes) -> float:
    return float(int(text, 16)) if b"0x" in text else float(text)
