"""Values of an evaluation's JSON as they are shown: each number rounded for its metric and traced to its field."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from nirvana_mri.report.html import number

NOTHING = "—"


@dataclass(frozen=True)
class Metric:
    """How a metric is called and written; ``better`` is "higher", "lower", or "" where neither is said."""

    name: str
    form: str = ".4f"
    unit: str = ""
    better: str = ""

    @property
    def head(self) -> str:
        """Name and unit, for a column or an axis."""
        return f"{self.name} [{self.unit}]" if self.unit else self.name


METRICS = {
    "ssim": Metric("SSIM", better="higher"),
    "psnr": Metric("PSNR", ".2f", "dB", "higher"),
    "nmse": Metric("NMSE", ".5f", "", "lower"),
    "ms_ssim": Metric("MS-SSIM", better="higher"),
    "haarpsi": Metric("HaarPSI", better="higher"),
    "edge_sharpness": Metric("edge sharpness"),
    "lpips": Metric("LPIPS", better="lower"),
    "dists": Metric("DISTS", better="lower"),
}


def metric(key: str) -> Metric:
    """The metric of this name in the JSON; an unknown one goes by its key."""
    return METRICS.get(key) or Metric(key.replace("_", " "))


@dataclass(frozen=True)
class Values:
    """The JSON of an evaluation, read by paths such as ``volumes.3.ssim``."""

    result: Mapping[str, Any]

    @property
    def metrics(self) -> list[str]:
        """Keys of the metrics that were computed, the main one first."""
        found = [row.get("mean") or {} for row in (self.result, *self.rows("by_method"))]
        keys = list(dict.fromkeys(key for mean in found for key in mean))
        known = [key for key in METRICS if key in keys]
        return known + [key for key in keys if key not in known]

    @property
    def methods(self) -> list[str]:
        """Names of the methods, the one that the page is about first."""
        return [str(name) for name in self.result.get("methods") or ()]

    def rows(self, field: str) -> list[Mapping[str, Any]]:
        """The rows of a table; none where the field is absent."""
        return list(self.result.get(field) or ())

    @property
    def interval_name(self) -> str:
        """ "95 % interval", or "interval" where its level is not said."""
        level = self.at("bootstrap.level")
        return f"{level:.0%} interval".replace("%", " %") if isinstance(level, float) else "interval"

    def at(self, field: str) -> Any:
        """What stands at a path; None where nothing does, and for numbers that are not finite."""
        found: Any = self.result
        for part in field.split("."):
            if isinstance(found, Mapping):
                found = found.get(part)
            elif isinstance(found, list | tuple) and part.isdigit() and int(part) < len(found):
                found = found[int(part)]
            else:
                return None
        return None if isinstance(found, float) and not math.isfinite(found) else found

    def show(self, field: str, form: str = "") -> str:
        """HTML of the number at a path, in a format of Python's; a dash where there is none."""
        value = self.at(field)
        return NOTHING if not isinstance(value, int | float) else number(written(value, form), field)

    def text(self, field: str) -> str:
        """HTML of the text at a path."""
        value = self.at(field)
        return NOTHING if value is None or value == "" else escape(str(value))

    def name(self, field: str) -> str:
        """HTML of a method's name at a path; it stays on one line."""
        return f'<span class="whole">{self.text(field)}</span>'

    def file(self, field: str) -> str:
        """HTML of a file name at a path; lines may break after its underscores."""
        return self.text(field).replace("_", "_<wbr>")

    def interval(self, field: str, form: str = "", between: str = " to ") -> str:
        """HTML of an interval, "low to high"; nothing where there is none."""
        if self.at(f"{field}.0") is None or self.at(f"{field}.1") is None:
            return ""
        return self.show(f"{field}.0", form) + between + self.show(f"{field}.1", form)

    def estimate(self, row: str, key: str) -> str:
        """HTML of a mean with its interval below, of a row that has both."""
        form = metric(key).form
        interval = self.interval(f"{row}.intervals.{key}", form, "–")
        return self.show(f"{row}.mean.{key}", form) + (f'<br><span class="soft">{interval}</span>' if interval else "")

    def scalars(self, field: str) -> Iterator[tuple[str, str]]:
        """(label, HTML) of the plain values of a mapping."""
        for key, value in (self.at(field) or {}).items():
            if isinstance(value, bool):
                yield _label(key), "yes" if value else "no"
            elif isinstance(value, int | float) and "." not in str(key):
                yield _label(key), self.show(f"{field}.{key}", "g")
            elif isinstance(value, str) and value:
                yield _label(key), escape(value)


def written(value: float, form: str = "") -> str:
    """A number as it is printed, with a true minus sign; two digits where rounding would make it 0."""
    text = format(value, form) if form else str(value)
    if value and not float(text):
        text = format(value, ".2g")
    return text.replace("-", "−")


def counted(values: Values, field: str, what: str) -> str:
    """HTML of "12 volumes", "1 patient"; "an unknown number of …" where the field is empty."""
    count = values.at(field)
    if not isinstance(count, int):
        return f"an unknown number of {what}s"
    return f"{values.show(field)} {what}{'' if count == 1 else 's'}"


def left_out(count: int, most: int, what: str, where: str) -> str:
    """Words about what a capped list leaves out; nothing where it is whole."""
    return f"{count - most} more {what} are in {where}." if count > most else ""


def _label(key: object) -> str:
    return str(key).replace("_", " ")
