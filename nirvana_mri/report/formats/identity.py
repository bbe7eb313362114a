"""Whose report it is: nobody's, unless the source series is given and its identifiers were asked for."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydicom.uid import generate_uid

from nirvana_mri.errors import UsageError
from nirvana_mri.io.writers.dicom_reference import IDENTIFYING, Instance, read_reference

SHOWN = {  # what people read of it
    "PatientName": "patient",
    "PatientID": "patient id",
    "PatientBirthDate": "birth date",
    "PatientSex": "sex",
    "StudyDate": "study date",
    "AccessionNumber": "accession number",
    "StudyDescription": "study",
}


@dataclass(frozen=True)
class Identity:
    """Values of the patient and study modules by DICOM keyword, and the images that the report is about."""

    values: Mapping[str, Any] = field(default_factory=dict, repr=False)
    images: tuple[Instance, ...] = field(default=(), repr=False)

    @property
    def rows(self) -> list[tuple[str, str]]:
        """What is known of patient and study, in words."""
        shown = [(label, str(self.values.get(name, "")).strip()) for name, label in SHOWN.items()]
        return [(label, text.replace("^", " ").strip()) for label, text in shown if text]


def read_identity(reference: str | Path | None, keep_identifiers: bool) -> Identity:
    """The identity in a source series (a DICOM file or folder); an empty one where none is asked for.

    Raises: UsageError where only one of the two is given; as `read_reference` does.
    """
    check_identity(reference, keep_identifiers)
    if reference is None:
        return Identity()
    found = read_reference(reference, keep_identifiers=True)
    return Identity(found.values, found.instances)


def check_identity(reference: str | Path | None, keep_identifiers: bool) -> None:
    """Nothing, where the two go together; else UsageError."""
    if keep_identifiers and reference is None:
        raise UsageError("keep_identifiers without a reference series, which alone holds any; give one")
    if reference is not None and not keep_identifiers:
        raise UsageError(
            f"{reference}: a report takes nothing but identifiers from a reference series; "
            "ask for them with keep_identifiers, or leave the reference out"
        )
    if reference is not None and not Path(reference).exists():
        raise UsageError(f"{reference}: no such file or folder; expected the source series (DICOM)")


def study_values(identity: Identity) -> dict[str, Any]:
    """What a DICOM file must say of patient and study: the identity's, or ANONYMOUS with a random number."""
    now = datetime.now(UTC)
    empty = ("PatientBirthDate", "PatientSex", "AccessionNumber", "ReferringPhysicianName")
    made = {
        **dict.fromkeys(empty, ""),
        "PatientName": "ANONYMOUS^NIRVANA",
        "PatientID": f"NIRVANA-{secrets.token_hex(6).upper()}",
        "StudyInstanceUID": generate_uid(prefix=None),
        "StudyID": "NIRVANA",
        "StudyDate": now.strftime("%Y%m%d"),
        "StudyTime": now.strftime("%H%M%S"),
    }
    return {
        **made,
        **{name: value for name, value in identity.values.items() if name in (*IDENTIFYING, "StudyInstanceUID")},
    }
