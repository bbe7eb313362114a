"""Whose file it is, without saying who: files of one patient get one key, which means nothing elsewhere."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import h5py

from nirvana_mri.errors import DataError
from nirvana_mri.io.hdf5 import SafeFile

SUBJECT = re.compile(r"(?:^|/)(sub-[A-Za-z0-9]+)(?=[_/.]|$)")  # as BIDS names files and folders


def patient_key(path: Path, name: str, salt: bytes) -> str:
    """32 hex digits, equal for files of one patient.

    The patient is told by fastMRI's attribute ``patient_id``, else by BIDS's ``sub-…`` in ``name`` (the file's place in
    its data folder), else each name is a patient of its own. Keyed with ``salt``: without it nobody can look up an
    identity, and the identity itself is not kept.
    """
    identity = _identity(path, name) or f"name {name}"
    return hashlib.blake2b(identity.encode(), key=salt, digest_size=16).hexdigest()


def says_patient(path: Path, name: str) -> bool:
    """True where the file or its name tells the patient, so that files of one can be told to be that."""
    return _identity(path, name) is not None


def _identity(path: Path, name: str) -> str | None:
    found = SUBJECT.search(name)
    return _patient_id(path) or (f"name {found.group(1)}" if found else None)


def _patient_id(path: Path) -> str | None:
    if not h5py.is_hdf5(path):
        return None
    try:
        with SafeFile(path) as file:
            value = file.attribute("patient_id", "O")
    except DataError:
        return None
    return f"id {value}" if isinstance(value, str) and value.strip() else None
