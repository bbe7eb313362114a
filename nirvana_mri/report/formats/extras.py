"""Libraries that only some formats need."""

from __future__ import annotations

import importlib
from types import ModuleType

from nirvana_mri.errors import MissingExtraError

NEEDS = {  # suffix: (what it is, module, extra)
    ".dcm": ("a DICOM structured report", "highdicom", "dicom"),
    ".fhir.json": ("a FHIR report", "fhir.resources", "fhir"),
    ".pdf": ("a PDF report", "reportlab", "pdf"),
}


def check_extra(suffix: str) -> ModuleType:
    """The library that writes files of this suffix; MissingExtraError where it is not installed."""
    what, module, extra = NEEDS[suffix]
    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingExtraError(what, extra) from None
