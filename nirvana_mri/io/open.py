"""open_file: any file → Scan or Picture, judged by its content and never by its name."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import h5py

from nirvana_mri.errors import ScanError, UsageError
from nirvana_mri.scan import Picture, Scan


@dataclass(frozen=True)
class Kind:
    """One kind of file: how it is told, who reads it, and which options say more than the file does."""

    name: str
    module: str
    told_by: str
    reader: str
    options: frozenset[str]

    def _function(self, name: str) -> Callable[..., Any]:
        function: Callable[..., Any] = getattr(import_module(f"nirvana_mri.io.{self.module}"), name)
        return function

    def holds(self, path: Path) -> bool:
        return bool(self._function(self.told_by)(path))

    def read(self, path: Path, options: dict[str, Any]) -> Scan | Picture:
        for name in options.keys() - self.options:
            known = ", ".join(sorted(self.options)) or "none"
            raise UsageError(f"{path} is {self.name}, which has no option {name}; options that fit it: {known}")
        found: Scan | Picture = self._function(self.reader)(path, **options)
        return found


ARRAY = Kind("a plain array", "arrays", "is_array", "read_array", frozenset({"volume", "axes", "dataset", "images"}))
FASTMRI = Kind("fastMRI h5", "fastmri", "is_fastmri", "read_fastmri", frozenset())
KINDS = (
    ARRAY,  # before HDF5: MATLAB's newer files are HDF5 too
    FASTMRI,
    Kind("ISMRMRD h5", "ismrmrd", "is_ismrmrd", "read_ismrmrd", frozenset({"volume", "encoding", "calibration"})),
    Kind("Bruker", "bruker", "is_bruker", "read_bruker", frozenset({"volume"})),
    Kind("DICOM", "dicom", "is_dicom", "read_dicom", frozenset({"volume"})),
    Kind("NIfTI", "nifti", "is_nifti", "read_nifti", frozenset({"volume"})),
    Kind("BART cfl", "cfl", "is_cfl", "read_cfl", frozenset({"volume", "images"})),
    Kind("Siemens twix", "twix", "is_twix", "read_twix", frozenset({"volume"})),
)


def open_file(path: str | Path, **options: Any) -> Scan | Picture:
    """The acquisition, or the pictures, in a file or in a folder of DICOM files; read slice by slice.

    Options that are None or False count as not given. ``volume`` picks one of several (repetition, echo, time);
    ``encoding`` one of an ISMRMRD file's encodings, ``calibration`` its separate calibration scan; ``axes``,
    ``dataset`` and ``images`` say what a plain array's axes are, which variable of its file it is, and that it holds
    coil images.

    Raises: ScanError or DataError, one line with value, expectation and next step, for anything that cannot be used as
    it is; UsageError for an option that this kind of file does not have; MissingExtraError for a missing library.
    """
    path = Path(path)
    given = {name: value for name, value in options.items() if value is not None and value is not False}
    kind = _kind_of(path)
    return kind.read(path, given)


def _kind_of(path: Path) -> Kind:
    try:
        for kind in KINDS:
            if kind.holds(path):
                return kind
        if path.is_file() and h5py.is_hdf5(path):
            return FASTMRI  # whose reader says what is missing
        raise ScanError(_refusal(path))
    except (OSError, ValueError) as problem:
        raise ScanError(f"{path}: cannot be opened ({problem}); check the path and its permissions") from problem


def _refusal(path: Path) -> str:
    """Why nothing here can be read, in one line."""
    if not path.exists():
        return f"{path}: no such file; check the path"
    if path.is_dir():
        return f"{path} is a folder without DICOM images; name a file inside it"
    if not path.is_file():
        return f"{path} is not a regular file, expected a scan on disk; copy it there first"
    if path.suffix == ".cfl":
        return f"{path}: its header {path.with_suffix('.hdr').name} is missing; copy it beside"
    names = ", ".join(kind.name for kind in KINDS)
    return f"{path}: {_appears(path)}, expected one of {names}; convert it first"


def _appears(path: Path) -> str:
    """What a file that nobody reads seems to be, from its first bytes."""
    with path.open("rb") as file:
        start = file.read(1024)
    if not start:
        return "the file is empty"
    if start.startswith(b"\x1f\x8b"):
        return f"gzip-compressed {_guess(_unzipped(path))}"
    return f"this appears to be {_guess(start)}"


def _unzipped(path: Path) -> bytes:
    try:
        with gzip.open(path) as file:
            return file.read(1024)
    except (OSError, EOFError, zlib.error):
        return b""


def _guess(start: bytes) -> str:
    if start[128:132] == b"DICM":
        return "DICOM"
    if start[344:348] in (b"n+1\0", b"ni1\0") or start[4:8] in (b"n+2\0", b"ni2\0"):
        return "damaged NIfTI"
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
