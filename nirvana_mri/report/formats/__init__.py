"""The report as a DICOM structured report, as FHIR and as PDF: one content, three writers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nirvana_mri.atomic import check_target
from nirvana_mri.errors import UsageError
from nirvana_mri.report.formats.extras import NEEDS, check_extra
from nirvana_mri.report.formats.identity import check_identity, read_identity

__all__ = ["check_report", "report_suffix", "write_report"]


def report_suffix(path: str | Path) -> str | None:
    """ ".dcm", ".fhir.json" or ".pdf" by the path's end; None for what is not written here (``.json``, ``.html``)."""
    name = Path(path).name.lower()
    return next((suffix for suffix in NEEDS if name.endswith(suffix) and name != suffix), None)


def check_report(path: str | Path, reference: str | Path | None = None, keep_identifiers: bool = False) -> str:
    """The suffix by which a report would be written there; worth calling before long work.

    Raises: UsageError for another suffix, a place where no file can be, or options that do not fit; MissingExtraError.
    """
    suffix = report_suffix(path)
    if suffix is None:
        raise UsageError(f"{path}: cannot write a report of this name; expected NAME{', NAME'.join(NEEDS)}")
    check_identity(reference, keep_identifiers)
    check_target(path)
    check_extra(suffix)
    return suffix


def write_report(
    facts: Mapping[str, Any],
    out: str | Path,
    *,
    pictures: Mapping[str, bytes] | None = None,
    reference: str | Path | None = None,
    keep_identifiers: bool = False,
) -> Path:
    """Write the report of ``facts`` (schema "nirvana-mri report 1"), whole or not at all; the path written.

    The format is by the suffix: ``.dcm`` a DICOM structured report, ``.fhir.json`` a FHIR DiagnosticReport (R4),
    ``.pdf`` pages. All say the same; only the PDF shows ``pictures``, PNG files by caption. Nobody is named unless
    ``reference`` (a file of the source series, or its folder) is given with ``keep_identifiers``.

    Raises: UsageError and MissingExtraError as `check_report`; DataError for facts that cannot be reported.
    """
    suffix = check_report(out, reference, keep_identifiers)
    identity = read_identity(reference, keep_identifiers)
    if suffix == ".dcm":
        from nirvana_mri.report.formats.sr import write_sr

        return write_sr(facts, out, identity)
    if suffix == ".fhir.json":
        from nirvana_mri.report.formats.fhir import write_fhir

        return write_fhir(facts, out, identity)
    from nirvana_mri.report.formats.pdf import write_pdf

    return write_pdf(facts, out, identity, pictures or {})
