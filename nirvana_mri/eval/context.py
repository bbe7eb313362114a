"""What a scored volume is of: contrast, field, acceleration and patient, as tables and intervals need them."""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nirvana_mri.io.patient import patient_key, says_patient

EXACT = 0.05  # share by which an acceleration may miss the whole number that it is called by


def contrast_of(metadata: Mapping[str, Any]) -> str | None:
    """fastMRI's acquisition (AXT2, …) or the sequence, where the scan says one."""
    found = metadata.get("acquisition") or metadata.get("sequence")
    return found if isinstance(found, str) else None


def field_of(metadata: Mapping[str, Any]) -> float | None:
    """The field strength [T] as the scan says it."""
    found = metadata.get("field_strength_t")
    return float(found) if isinstance(found, int | float) and found > 0 else None


def times(acceleration: float | None) -> str | None:
    """An achieved acceleration as it is called: 3.97 is "4x", 3.2 "3.2x"."""
    if acceleration is None:
        return None
    whole = round(acceleration)
    near = whole > 0 and abs(acceleration - whole) <= EXACT * whole
    return f"{whole}x" if near else f"{acceleration:.1f}x"


def tesla(field: float | None) -> str | None:
    """A field strength as it is called: above 1 T to the half tesla (2.89 is "3T"), below to two digits."""
    if field is None:
        return None
    return f"{round(2 * field) / 2:g}T" if field > 1 else f"{field:.2g}T"


def group_of(contrast: str | None, acceleration: float | None, field: float | None) -> str:
    """ "AXT2 · 4x · 3T", of what is known; "all" where nothing is."""
    return " · ".join(part for part in (contrast, times(acceleration), tesla(field)) if part) or "all"


class Patients:
    """Labels p1, p2, … in the order of appearance: one for the files of a patient, and nothing that tells who it is."""

    def __init__(self) -> None:
        self.untold: set[str] = set()  # labels of files that do not say whose they are
        self._salt = secrets.token_bytes(16)
        self._labels: dict[str, str] = {}

    def label(self, path: Path) -> str:
        """The label of the patient whose file this is; a file that does not say is a patient of its own."""
        key = patient_key(path, str(path), self._salt)
        label = self._labels.setdefault(key, f"p{len(self._labels) + 1}")
        if not says_patient(path, str(path)):
            self.untold.add(label)
        return label
