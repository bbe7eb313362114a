"""Facts → a DICOM structured report (Comprehensive SR): preliminary, partial, verified by nobody."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from highdicom.sr import ComprehensiveSR
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from nirvana_mri.atomic import atomic_path
from nirvana_mri.errors import DataError
from nirvana_mri.io.writers.derivation import plain
from nirvana_mri.io.writers.dicom_reference import Instance
from nirvana_mri.io.writers.dicom_series import IMPLEMENTATION
from nirvana_mri.io.writers.folder import WRITER
from nirvana_mri.report.formats.content import notice_of, title_of
from nirvana_mri.report.formats.identity import Identity, study_values
from nirvana_mri.report.formats.sr_content import content_tree
from nirvana_mri.report.formats.text import clean, word


def write_sr(facts: Mapping[str, Any], path: str | Path, identity: Identity) -> Path:
    """Write the report as one DICOM file, whole or not at all; the path.

    UIDs are new and random, dates are those of writing. The images of ``identity`` are named as evidence.
    Raises: DataError for facts or identifiers that DICOM cannot hold, or a full disk.
    """
    report = structured_report(facts, identity)
    try:
        with atomic_path(path) as temporary:
            report.save_as(temporary, enforce_file_format=True)
    except OSError as problem:
        raise DataError(f"{path}: cannot be written ({problem}); check space and permissions") from problem
    return Path(path)


def structured_report(facts: Mapping[str, Any], identity: Identity) -> ComprehensiveSR:
    """The report as a dataset. Raises: DataError."""
    root = content_tree(facts)
    now = datetime.now(UTC)
    try:
        made = ComprehensiveSR(
            evidence=_lenders(identity),
            content=root,
            series_instance_uid=generate_uid(prefix=None),
            series_number=9000 + secrets.randbelow(1000),  # beside, not among, the scanner's own
            sop_instance_uid=generate_uid(prefix=None),
            instance_number=1,
            manufacturer="nirvana-mri",
            manufacturer_model_name=_short(f"nirvana-mri, model {word(facts.get('model'), 'none')}"),
            software_versions=_short(word(facts.get("toolkit_version"))),
            series_description=_short(f"{notice_of(facts).upper()} {title_of(facts)}"),
            content_date=now.date(),
            content_time=now.time().replace(microsecond=0),
            specific_character_set="ISO_IR 192",
            transfer_syntax_uid=ExplicitVRLittleEndian,
            is_complete=False,
            is_final=False,
            is_verified=False,
        )
    except ValueError:  # its message may hold a name
        raise DataError("report: an identifier of the reference series is not allowed there; leave it out") from None
    if not identity.images:
        del made.CurrentRequestedProcedureEvidenceSequence  # the lender of the header is no image
    made.file_meta.ImplementationClassUID, made.file_meta.ImplementationVersionName = IMPLEMENTATION, WRITER
    return made


def _lenders(identity: Identity) -> list[Dataset]:
    """Headers that say whose report it is: one for each image, or one that stands for none."""
    values = study_values(identity)
    nowhere = Instance(MRImageStorage, generate_uid(prefix=None), generate_uid(prefix=None))
    made = []
    for image in identity.images or (nowhere,):
        head = Dataset()
        for name, value in values.items():
            setattr(head, name, value)
        head.SOPClassUID, head.SOPInstanceUID, head.SeriesInstanceUID = (
            image.sop_class,
            image.sop_instance,
            image.series,
        )
        made.append(head)
    return made


def _short(words: str) -> str:
    """Text as an element of at most 64 characters holds it."""
    return plain(clean(words), 64) or "unknown"
