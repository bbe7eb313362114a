"""open_scan: any raw file → Scan, judged by its content and never by its name."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import h5py

from nirvana_mri.errors import ScanError
from nirvana_mri.io.fastmri import read_fastmri
from nirvana_mri.scan import Scan


def open_scan(path: str | Path) -> Scan:
    """The acquisition in ``path`` (fastMRI HDF5 layout), to be read slice by slice.

    Raises: ScanError, one line with value, expectation and next step, for anything that cannot be used as it is.
    """
    path = Path(path)
    try:
        if not path.exists():
            raise ScanError(f"{path}: no such file; check the path")
        if path.is_dir():
            raise ScanError(f"{path} is a folder, expected one scan; name a file inside it")
        if not path.is_file():
            raise ScanError(f"{path} is not a regular file, expected a scan on disk; copy it there first")
        if not h5py.is_hdf5(path):
            raise ScanError(f"{path}: {_appears(path)}, expected HDF5 in fastMRI layout; convert it first")
    except (OSError, ValueError) as problem:
        raise ScanError(f"{path}: cannot be opened ({problem}); check the path and its permissions") from problem
    return read_fastmri(path)


def _appears(path: Path) -> str:
    """What a file that is not HDF5 seems to be, from its first bytes."""
    with path.open("rb") as file:
        start = file.read(1024)
    if not start:
        return "the file is empty"
    if start.startswith(b"\x1f\x8b"):
        return f"gzip-compressed {_kind(_unzipped(path))}"
    return f"this appears to be {_kind(start)}"


def _unzipped(path: Path) -> bytes:
    try:
        with gzip.open(path) as file:
            return file.read(1024)
    except (OSError, EOFError, zlib.error):
        return b""


def _kind(start: bytes) -> str:
    if start[128:132] == b"DICM":
        return "DICOM"
    if start[344:348] in (b"n+1\0", b"ni1\0") or start[4:8] in (b"n+2\0", b"ni2\0"):
        return "NIfTI, a picture without raw data"
    if start.startswith(b"# Dimensions"):
        return "a BART .hdr header"
    for magic, kind in (
        (b"\x93NUMPY", "a NumPy array"),
        (b"PK\x03\x04", "a zip archive"),
        (b"\x89HDF", "damaged HDF5"),
    ):
        if start.startswith(magic):
            return kind
    if start and all(byte >= 32 or byte in b"\t\n\r\f" for byte in start):
        return "text"
    return "binary data of no known kind"
