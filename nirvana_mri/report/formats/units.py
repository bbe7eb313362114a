"""Units of the report's numbers, in UCUM."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Unit:
    """A UCUM code, its name, how it is written after a number, and the factor from the stored number to this unit."""

    code: str
    name: str
    sign: str
    factor: float = 1


NONE = Unit("1", "no units", "")
TIMES = Unit("1", "no units", "×")
PERCENT = Unit("%", "percent", "%")
SHARE = Unit("%", "percent", "%", 100)  # stored as a fraction
DECIBEL = Unit("dB", "decibel", "dB")

_BY_FIELD = {"psnr": DECIBEL, "null_space_fraction": SHARE, "acceleration": TIMES, "achieved_acceleration": TIMES}
_BY_LAST_WORD = {
    "mm": Unit("mm", "millimeter", "mm"),
    "ms": Unit("ms", "millisecond", "ms"),
    "t": Unit("T", "tesla", "T"),
    "deg": Unit("deg", "degree", "°"),
    "db": DECIBEL,
    "percent": PERCENT,
    "seconds": Unit("s", "second", "s"),
}


def unit_of(name: str) -> Unit:
    """The unit of a field by its name: ``tr_ms`` is in ms; what says nothing has none."""
    return _BY_FIELD.get(name) or _BY_LAST_WORD.get(name.lower().rpartition("_")[2], NONE)


def without_unit(name: str) -> str:
    """The name in words, without its unit: ``tr_ms`` is "tr"."""
    head, _, last = name.rpartition("_")
    words = head if head and last.lower() in _BY_LAST_WORD and last != "seconds" else name
    return words.replace("_", " ")
