"""What is told of a DICOM file: numbers and codes from fixed lists, never its text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nirvana_mri.io.dicom.elements import Elements

MAKERS = {
    "SIEMENS": "SIEMENS",
    "PHILIPS": "PHILIPS",
    "GE ": "GE",
    "GEHC": "GE",
    "CANON": "CANON",
    "TOSHIBA": "CANON",
    "HITACHI": "FUJIFILM",
    "FUJIFILM": "FUJIFILM",
    "UIH": "UNITED IMAGING",
    "UNITED IMAGING": "UNITED IMAGING",
    "BRUKER": "BRUKER",
    "HYPERFINE": "HYPERFINE",
    "ESAOTE": "ESAOTE",
}
# fmt: off
BODY_PARTS = (
    "ABDOMEN", "ANKLE", "ARM", "BRAIN", "BREAST", "CHEST", "CSPINE", "ELBOW", "EXTREMITY", "FINGER", "FOOT", "HAND",
    "HEAD", "HEADNECK", "HEART", "HIP", "KIDNEY", "KNEE", "LEG", "LIVER", "LSPINE", "NECK", "ORBIT", "PANCREAS",
    "PELVIS", "PHANTOM", "PROSTATE", "SHOULDER", "SPINE", "TSPINE", "UTERUS", "WHOLEBODY", "WRIST",
)
# fmt: on
SEQUENCES = ("SE", "IR", "GR", "EP")  # PS3.3, C.8.3.1: spin echo, inversion recovery, gradient recalled, echo planar
LIMITS = {  # the name here: what a scanner can mean
    "field_strength_t": (0.001, 30),
    "tr_ms": (0.001, 100_000),
    "te_ms": (0, 10_000),
    "ti_ms": (0.001, 20_000),
    "flip_angle_deg": (0, 360),
    "slice_thickness_mm": (0.001, 1000),
    "b_value": (0, 1_000_000),
}


def metadata_of(header: Elements, shared: Elements, frame: Elements, **known: float | None) -> Mapping[str, Any]:
    """The allow-listed facts about one image; ``known`` are those that the caller has found already."""
    timing = _group(shared, frame, "MRTimingAndRelatedParametersSequence")
    modifier = _group(shared, frame, "MRModifierSequence")
    measures = _group(shared, frame, "PixelMeasuresSequence")
    numbers = {
        "field_strength_t": header.number("MagneticFieldStrength"),
        "tr_ms": _either(timing, header, "RepetitionTime"),
        "ti_ms": modifier.number("InversionTimes") or header.number("InversionTime"),
        "flip_angle_deg": _either(timing, header, "FlipAngle"),
        "slice_thickness_mm": _either(measures, header, "SliceThickness"),
        **known,
    }
    found: dict[str, Any] = {}
    for name, (lowest, largest) in LIMITS.items():
        value = numbers.get(name)
        if value is not None and lowest <= value <= largest:
            found[name] = value
    codes = {
        "manufacturer": maker(header),
        "body_part": header.text("BodyPartExamined").upper(),
        "sequence": _sequence(header, modifier),
        "encoding": header.text("MRAcquisitionType").upper(),
    }
    if codes["body_part"] not in BODY_PARTS:
        del codes["body_part"]
    if codes["encoding"] not in ("2D", "3D"):
        del codes["encoding"]
    return found | {name: code for name, code in codes.items() if code}


def maker(header: Elements) -> str:
    """The manufacturer's code, or an empty text."""
    name = header.text("Manufacturer").upper() + " "
    return next((code for start, code in MAKERS.items() if name.startswith(start)), "")


def _sequence(header: Elements, modifier: Elements) -> str:
    """Codes of ``SEQUENCES`` joined by a plus sign, from either kind of header."""
    codes = {code.upper() for code in header.texts("ScanningSequence")}
    pulse = header.text("EchoPulseSequence").upper()
    codes |= {"SPIN": {"SE"}, "GRADIENT": {"GR"}, "BOTH": {"SE", "GR"}}.get(pulse, set())
    codes |= {"EP"} if header.text("EchoPlanarPulseSequence").upper() == "YES" else set()
    codes |= {"IR"} if modifier.text("InversionRecovery").upper() == "YES" else set()
    return "+".join(code for code in SEQUENCES if code in codes)


def _group(shared: Elements, frame: Elements, name: str) -> Elements:
    return frame.first(name) if name in frame.items else shared.first(name)


def _either(first: Elements, second: Elements, name: str) -> float | None:
    value = first.number(name)
    return second.number(name) if value is None else value
