"""Arrays of numpy's own files (.npy mapped, .npz unpacked within bounds); nothing is ever unpickled."""

from __future__ import annotations

import math
import tokenize
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.errors import ScanError
from nirvana_mri.io.arrays.source import InMemory, Mapped, Stored
from nirvana_mri.io.hdf5 import LARGEST_READ, most_unpacked
from nirvana_mri.io.names import type_words

LARGEST_COUNT = 10_000  # members of an archive
PIECE = 1 << 24
# What numpy's parser raises for a damaged header, and zipfile for a damaged archive.
HEADER_ERRORS = (ValueError, TypeError, SyntaxError, EOFError, OSError, OverflowError, RecursionError, MemoryError)
NPY_ERRORS = (*HEADER_ERRORS, KeyError, AttributeError, IndexError, tokenize.TokenError)
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, IndexError, *HEADER_ERRORS)


def read_npy(path: Path) -> Stored:
    """The array of an npy file, not yet read. Raises: ScanError for a damaged file or one that holds objects."""
    with path.open("rb") as file:
        shape, fortran, dtype = _header(path, file)
        stored = Mapped(path, file.tell(), shape, dtype, "F" if fortran else "C")
    stored.check()
    return stored


def npz_names(path: Path) -> dict[str, str]:
    """What the arrays of an npz archive are called, and their members. Raises: ScanError for a damaged archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()[:LARGEST_COUNT]
    except ZIP_ERRORS as problem:
        raise _damaged(path, problem) from None
    return {name.removesuffix(".npy"): name for name in members if name.endswith(".npy")}


def read_npz(path: Path, member: str) -> Stored:
    """One array of an npz archive, unpacked. Raises: ScanError where it declares more than the archive can hold."""
    try:
        with zipfile.ZipFile(path) as archive:
            return InMemory(_unpacked(path, archive, archive.getinfo(member)))
    except (*ZIP_ERRORS, KeyError) as problem:
        raise _damaged(path, problem) from None


def _unpacked(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ScanError(f"{path}: a member is packed with method {info.compress_type}; use numpy.savez_compressed")
    stored = min(info.compress_size, path.stat().st_size)
    allowed = stored if info.compress_type == zipfile.ZIP_STORED else most_unpacked(stored)
    with archive.open(info) as file:
        shape, fortran, dtype = _header(path, file)
        count = math.prod(shape)
        declared = count * dtype.itemsize
        if declared > min(info.file_size, allowed):
            raise ScanError(f"{path}: an array declares {shape}, more than the archive holds; save it again")
        if declared > LARGEST_READ:
            raise ScanError(f"{path}: {shape} is larger than {LARGEST_READ >> 30} GiB; save it as npy, which is mapped")
        values = np.empty(count, dtype)
        into = values.view(np.uint8)
        at = 0
        while at < declared:
            piece = file.read(min(PIECE, declared - at))
            if not piece:
                raise ScanError(f"{path}: an array ends after {at} of {declared} bytes; copy it again")
            into[at : at + len(piece)] = np.frombuffer(piece, np.uint8)
            at += len(piece)
    return values.reshape(shape, order="F" if fortran else "C")


def _header(path: Path, file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether column-major, and the type; objects are refused."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of numpy, about headers that Python 2 wrote
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version[0] == 1 else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(file)
    except NPY_ERRORS:
        raise ScanError(
            f"{path}: not a readable npy array (its header cannot be read); save it again with numpy.save"
        ) from None
    if dtype.hasobject:
        raise ScanError(f"{path}: an array of Python objects, which is never unpickled; save complex64 numbers")
    if dtype.kind not in "biufc" or len(shape) > 32 or any(n < 1 for n in shape) or math.prod(shape) >= 1 << 48:
        raise ScanError(f"{path}: {type_words(dtype)} {shape} is no array of samples; save complex64 numbers")
    return shape, fortran, dtype


def _damaged(path: Path, problem: Exception) -> ScanError:
    return ScanError(f"{path}: the archive cannot be read ({type(problem).__name__}); save it again with numpy.savez")
