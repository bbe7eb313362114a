"""fastMRI's HDF5 layout (Zbontar et al. 2018, arXiv 1811.08839) → Scan, read one slice at a time.

``kspace`` (slices, coils, ny, nx) or, single-coil, (slices, ny, nx); ``mask`` where undersampled;
``reconstruction_rss`` or ``reconstruction_esc`` where there is a target; ``ismrmrd_header`` XML.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from nirvana_mri.errors import ScanError
from nirvana_mri.io.hdf5 import LARGEST_READ, SafeFile
from nirvana_mri.io.header import Header, HeaderError, parse_header
from nirvana_mri.io.names import is_plain, type_words
from nirvana_mri.io.sampling import SamplingError, inside_padding, read_mask, settle
from nirvana_mri.io.slices import KspaceSlices, ReferenceSlices
from nirvana_mri.io.writers.fastmri import write_fastmri
from nirvana_mri.scan import Geometry, Scan

__all__ = ["is_fastmri", "metadata_of", "read_fastmri", "write_fastmri"]

# All that is ever read of the attributes; patient_id and the like stay in the file.
NUMBERS = ("max", "norm", "acceleration", "num_low_frequency")
FROM_HEADER = ("field_strength_t", "tr_ms", "te_ms", "ti_ms", "flip_angle_deg")
# AXT2, AXT1POST, CORPDFS_FBK: a protocol's code; anything else may be free text.
ACQUISITION = re.compile(r"(AX|COR|SAG)(T1|T2|FLAIR|PD|T2STAR|SWI|DWI|ADC)?(PRE|POST|FS)?(_FBK|_FBKREPEAT|_[A-Z])?")


def is_fastmri(path: str | Path) -> bool:
    """True for HDF5 with a ``kspace`` at its root. Never raises."""
    try:
        if not Path(path).is_file() or not h5py.is_hdf5(path):
            return False
        with SafeFile(path) as file:
            return file.has("kspace")
    except (ScanError, OSError, ValueError):
        return False


def read_fastmri(path: str | Path) -> Scan:
    """The acquisition in a fastMRI file.

    Only the header, the mask and (a coil of) the middle slice are read. Raises: ScanError where the file
    cannot be used as it is; what it merely lacks becomes ``Scan.warnings``.
    """
    path = Path(path)
    notes: list[str] = []
    with SafeFile(path) as file:
        kspace = _kspace(file)
        header = _header(file, notes)
        inside = _inside(file, header, kspace.shape[-1], notes)
        acquired = _acquired(file, kspace, inside, notes)
        source = KspaceSlices(path, tuple(kspace.shape), acquired)
        reference = _reference(file, kspace.shape)
        crop, geometry = _picture(header, reference, source.shape, notes)
        return Scan(
            name=path.stem,
            kspace=source,
            acquired=acquired,
            crop=crop,
            geometry=geometry,
            reference=reference,
            multicoil=kspace.ndim == 4,
            simulated=file.has_attribute("simulated"),
            metadata=_metadata(file, header),
            warnings=tuple(notes),
            path=path,
            file_format="fastMRI h5",
        )


def metadata_of(file: SafeFile) -> dict[str, Any]:
    """What a file in this layout says of its acquisition, allow-listed; its k-space may be missing."""
    return _metadata(file, _header(file, []))


def _kspace(file: SafeFile) -> h5py.Dataset:
    """The k-space dataset, its rank, type and size checked."""
    if not file.has("kspace"):
        raise file.fail(f"no dataset kspace{_what_instead(file.names())}")
    kspace = file.dataset("kspace")
    with file.reading("the type of kspace"):
        dtype, shape = kspace.dtype, kspace.shape
    found = f"kspace is {type_words(dtype)} {shape}"
    if dtype.kind == "f" and shape and shape[-1] == 2:
        raise file.fail(f"{found}: real and imaginary parts on a last axis of 2; store them joined as complex64")
    if dtype.kind != "c" or dtype.itemsize not in (8, 16):
        raise file.fail(f"{found}, expected complex64 (or complex128); store raw k-space, not a magnitude")
    if len(shape) not in (3, 4):
        raise file.fail(f"{found}, expected (slices, coils, ny, nx) or (slices, ny, nx); reorder its axes")
    if 0 in shape:
        raise file.fail(f"{found}: no samples; export the scan again")
    if math.prod(shape[1:]) * dtype.itemsize > LARGEST_READ:
        raise file.fail(f"{found}: a slice is larger than {LARGEST_READ >> 30} GiB; split the file")
    return kspace


def _what_instead(names: list[str]) -> str:
    """A guess at the file's kind from its root, for the error message."""
    if any(name.startswith("reconstruction") for name in names):
        return ": it holds a reconstruction, no raw data; give the scan itself"
    if "dataset" in names:
        return ": it looks like ISMRMRD (group dataset); convert it to fastMRI layout first"
    shown = ", ".join(sorted(name for name in names if is_plain(name))[:5]) or "nothing that is known here"
    return f": its root holds {shown}; expected fastMRI layout (kspace, ismrmrd_header)"


def _header(file: SafeFile, notes: list[str]) -> Header | None:
    if not file.has("ismrmrd_header"):
        notes.append(
            "no ismrmrd_header: lost are the geometry (voxel size), the padding (told by zeros in the k-space instead) "
            "and the crop (the reference's matrix if there is one, else the full k-space matrix, is used instead)"
        )
        return None
    try:
        header = parse_header(file.text("ismrmrd_header"))
    except HeaderError as problem:
        raise file.fail(f"ismrmrd_header cannot be used: {problem}; repair the header or delete it") from None
    if header.trajectory != "cartesian":
        raise file.fail("ismrmrd_header names a trajectory that is not cartesian; grid the samples first")
    return header


def _inside(file: SafeFile, header: Header | None, nx: int, notes: list[str]) -> NDArray[np.bool_]:
    """bool ``[nx]``, False in the zero-padded columns that the header names."""
    padding = header.padding() if header else None
    if header is None or padding is None:
        if header:
            notes.append("ismrmrd_header has no encodingLimits: zero-padded columns are told by their zeros")
        return np.ones(nx, bool)
    encoded = header.encoded_matrix[1] if header.encoded_matrix else nx
    if encoded != nx:
        notes.append(
            f"ismrmrd_header encodes {encoded} columns but kspace has {nx}: its padding is not used, zeros tell it"
        )
        return np.ones(nx, bool)
    left, right = padding
    if left < 0 or right > nx:
        notes.append(f"ismrmrd_header puts the measured columns at {left}:{right} of 0:{nx}: cut to what is there")
    inside = inside_padding(nx, padding)
    if not inside.any():
        raise file.fail(f"ismrmrd_header calls every column padding ({left}:{right} of {nx}); repair the header")
    return inside


def _acquired(file: SafeFile, kspace: h5py.Dataset, inside: NDArray[np.bool_], notes: list[str]) -> NDArray[np.bool_]:
    """What was measured, from the mask if there is one, against the zeros of the middle slice."""
    ny, nx = kspace.shape[-2:]
    middle = kspace.shape[0] // 2
    try:
        mask = read_mask(file.array("mask", largest=ny * nx), (ny, nx)) if file.has("mask") else None
        expected = inside if mask is None else mask & inside
        acquired, more = settle(_carries(file, kspace, middle, expected), mask, inside)
    except SamplingError as problem:
        raise file.fail(f"{problem} (seen in slice {middle})") from problem
    notes += more
    return acquired


def _carries(file: SafeFile, kspace: h5py.Dataset, number: int, expected: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """bool ``[ny, nx]``, True where some coil of a slice is not zero; one coil is read if that settles it."""
    with file.reading(f"slice {number} of kspace"), np.errstate(invalid="ignore"):
        if kspace.ndim == 3:
            return np.asarray(kspace[number] != 0)
        first = np.asarray(kspace[number, 0] != 0)
        if (first | ~expected).all():
            return first
        found: NDArray[np.bool_] = (kspace[number] != 0).any(axis=0)
    return found


def _reference(file: SafeFile, shape: tuple[int, ...]) -> ReferenceSlices | None:
    """The target pictures, if the file holds them. fastMRI's single-coil files hold both kinds; theirs is esc."""
    keys = ("reconstruction_rss", "reconstruction_esc")
    key = next((key for key in (keys if len(shape) == 4 else keys[::-1]) if file.has(key)), None)
    if key is None:
        return None
    pictures = file.dataset(key)
    with file.reading(key):
        dtype, found = pictures.dtype, pictures.shape
    if dtype.kind != "f" or len(found) != 3 or found[0] != shape[0] or 0 in found:
        words = type_words(dtype)
        raise file.fail(
            f"{key} is {words} {found}, expected real numbers ({shape[0]}, rows, columns); delete or redo it"
        )
    if math.prod(found[1:]) * 4 > LARGEST_READ:
        raise file.fail(f"{key} has pictures of {found[1:]}, beyond {LARGEST_READ >> 30} GiB; delete or redo it")
    return ReferenceSlices(file.path, key, tuple(found))


def _picture(
    header: Header | None, reference: ReferenceSlices | None, shape: tuple[int, int, int, int], notes: list[str]
) -> tuple[tuple[int, int], Geometry]:
    """Matrix of the finished picture and where it lies."""
    slices, _, ny, nx = shape
    crop = header.crop(ny, nx) if header else None
    if crop is None:
        crop = (min(reference.shape[1], ny), min(reference.shape[2], nx)) if reference else (ny, nx)
        if header:
            notes.append(f"ismrmrd_header has no reconSpace: the picture's matrix is {crop[0]}x{crop[1]}")
    elif reference and reference.shape[2] != crop[1]:
        rows, columns = reference.shape[1:]
        notes.append(f"the reference is {rows}x{columns}, the header's picture {crop[0]}x{crop[1]}")
    geometry = header.geometry(slices, crop) if header else Geometry()
    if header and geometry.voxel_mm is None:
        notes.append("ismrmrd_header has no field of view: voxel size and geometry are unknown")
    return crop, geometry


def _metadata(file: SafeFile, header: Header | None) -> dict[str, Any]:
    """The allow-listed attributes that are what they should be."""
    metadata: dict[str, Any] = {}
    acquisition = file.attribute("acquisition", "O")
    if isinstance(acquisition, str) and ACQUISITION.fullmatch(acquisition):
        metadata["acquisition"] = acquisition
    for name in NUMBERS:
        value = file.attribute(name, "iuf")
        if isinstance(value, int | float) and math.isfinite(value):
            metadata[name] = value
    if header is None:
        return metadata
    for name in FROM_HEADER:
        if getattr(header, name) is not None:
            metadata[name] = getattr(header, name)
    if (padding := header.padding()) is not None:
        metadata["padding_left"], metadata["padding_right"] = padding
    if header.encoded_matrix:
        metadata["encoding_size"] = header.encoded_matrix
    if header.recon_matrix:
        metadata["recon_size"] = header.recon_matrix
    return metadata
