"""Codes of the standards that mean what the report says with certainty; the toolkit's own are its JSON fields."""

from __future__ import annotations

import re

FIELDS_UID = "2.25.181336704120846374925930414187562304771"  # names the fields of the JSON report as a code system
LONGEST_CODE = 64
# SNOMED CT, where a structure is called exactly so: (code, meaning)
STRUCTURES = {
    "brain": ("12738006", "Brain"),
    "knee": ("72696002", "Knee"),
    "meniscus": ("74135004", "Meniscus"),
    "cartilage": ("309312004", "Cartilage"),
    "ligament": ("52082005", "Ligament"),
    "bone": ("272673000", "Bone"),
}
PRESENT, ABSENT = ("52101004", "Present"), ("272519000", "Absent")
MR_IMAGING = ("113091000", "Magnetic resonance imaging")


def field_code(field: str) -> str:
    """The code of a field: its path without the numbers of lists, in letters, digits, dots, dashes and underscores."""
    path = ".".join(part for part in field.split(".") if not part.isdigit())
    return re.sub(r"[^A-Za-z0-9._-]+", "_", path)[:LONGEST_CODE].strip("_") or "value"
