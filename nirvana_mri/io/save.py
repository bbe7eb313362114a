"""Volume ↔ fastMRI-style HDF5: what reconstruct writes, evaluate reads, and fastMRI's own tools accept."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from nirvana_mri.atomic import atomic_path
from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.io.hdf5 import LARGEST_READ, SafeFile
from nirvana_mri.volume import NOT_FOR_CLINICAL_USE, Volume

SUFFIXES = (".h5", ".hdf5")
FLAT = ("method", "model", "model_sha256", "acceleration", "toolkit_version")  # provenance also as plain attributes
LARGEST_MASK = 1 << 26  # elements


def save(volume: Volume, path: str | Path, *, overwrite: bool = True) -> Path:
    """Write ``volume`` as fastMRI-style HDF5, whole or not at all; the path written.

    ``reconstruction`` is float32 (complex64 where the phase was kept) ``[slice, ny, nx]``, ``mask`` the sampling
    used; the attributes say how it was made and that it is not for clinical use.

    Raises: UsageError for a suffix other than .h5 and .hdf5, a folder that is not there, or, without
    ``overwrite``, a file that is; DataError for voxels that are no volume, or a disk that is full.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path}: cannot write {path.suffix or 'a file without suffix'}; supported: .h5, .hdf5")
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists already; choose another name or allow overwriting")
    if volume.voxels.ndim != 3 or volume.voxels.dtype.kind not in "fc" or 0 in volume.voxels.shape:
        found = f"{volume.voxels.dtype} {volume.voxels.shape}"
        raise DataError(f"{path}: voxels are {found}, expected real or complex (slices, ny, nx); nothing written")
    provenance = {**volume.provenance, "notice": NOT_FOR_CLINICAL_USE}
    try:
        text = json.dumps(provenance, allow_nan=False)
    except (TypeError, ValueError) as problem:
        raise DataError(f"{path}: provenance is not JSON-ready ({problem}); nothing written") from problem
    try:
        with atomic_path(path) as temporary, h5py.File(temporary, "x") as file:
            _write(file, volume, provenance, text)
    except (OSError, RuntimeError) as problem:
        raise DataError(f"{path}: cannot be written ({problem}); check space and permissions") from problem
    return path


def _write(file: h5py.File, volume: Volume, provenance: dict[str, Any], text: str) -> None:
    kind = np.complex64 if volume.voxels.dtype.kind == "c" else np.float32
    file["reconstruction"] = volume.voxels.astype(kind, copy=False)
    if volume.mask.size:
        file["mask"] = volume.mask.astype(bool)
    file.attrs["provenance"] = text
    for name in FLAT:
        if isinstance(provenance.get(name), str | int | float):
            file.attrs[name] = provenance[name]
    file.attrs["notice"] = NOT_FOR_CLINICAL_USE
    file.attrs["name"] = volume.name
    file.attrs["slices"] = np.asarray(volume.slices or range(volume.voxels.shape[0]), np.int64)
    file.attrs["affine"] = np.asarray(volume.affine, np.float64)
    file.attrs["orientation_known"] = bool(volume.orientation_known)
    file.attrs["warnings"] = json.dumps(list(volume.warnings))


def load_volume(path: str | Path) -> Volume:
    """The reconstruction in an HDF5 file: one that `save` wrote, or any with a dataset ``reconstruction``.

    A file made elsewhere has method "unknown", no mask (size 0) and an identity affine. Raises: DataError for
    what is not such a file, is damaged, points elsewhere, or holds NaN or Inf.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected a reconstruction (.h5)")
    with SafeFile(path, DataError) as file:
        voxels = _voxels(file)
        affine = _numbers(file, "affine", (4, 4))
        slices = _numbers(file, "slices", (voxels.shape[0],))
        known = file.attribute("orientation_known", "b")
        name = file.attribute("name", "O")
        return Volume(
            voxels=voxels,
            affine=np.eye(4) if affine is None else affine.astype(np.float64),
            mask=_mask(file),
            provenance={**_unknown(), **_json(file, "provenance", {})},
            name=name if isinstance(name, str) else path.stem,
            slices=tuple(range(voxels.shape[0])) if slices is None else tuple(int(n) for n in slices),
            orientation_known=known is True,
            warnings=tuple(str(note) for note in _json(file, "warnings", [])),
        )


def _voxels(file: SafeFile) -> NDArray[Any]:
    if not file.has("reconstruction"):
        raise file.fail("no dataset reconstruction; is it a scan? reconstruct it first")
    dataset = file.dataset("reconstruction")
    with file.reading("reconstruction"):
        dtype, shape = dataset.dtype, dataset.shape
    if dtype.kind not in "fc" or len(shape) != 3 or 0 in shape:
        raise file.fail(f"reconstruction is {dtype} {shape}, expected real or complex (slices, rows, columns)")
    if math.prod(shape) * 8 > LARGEST_READ:
        raise file.fail(f"reconstruction is {shape}, beyond {LARGEST_READ >> 30} GiB; split the file")
    voxels = np.empty(shape, np.complex64 if dtype.kind == "c" else np.float32)
    with file.reading("reconstruction"):
        dataset.read_direct(voxels)
    if not np.isfinite(voxels).all():
        raise file.fail("reconstruction has NaN or Inf; reconstruct again")
    return voxels


def _mask(file: SafeFile) -> NDArray[np.bool_]:
    """The stored mask; size 0 where there is none."""
    if not file.has("mask"):
        return np.zeros(0, bool)
    mask = file.array("mask", largest=LARGEST_MASK)
    if not np.isin(mask, (0, 1)).all():
        raise file.fail("mask has values other than 0 and 1; store True where a sample was measured")
    return mask.astype(bool)


def _numbers(file: SafeFile, name: str, shape: tuple[int, ...]) -> NDArray[Any] | None:
    """A numeric attribute of this shape, or None where there is none."""
    value = file.attribute(name, "iuf")
    if value is None:
        return None
    value = np.asarray(value)
    if value.size != math.prod(shape) or not np.isfinite(value).all():
        raise file.fail(f"attribute {name} is {value.dtype} {value.shape}, expected finite numbers {shape}")
    return value.reshape(shape)


def _json(file: SafeFile, name: str, default: Any) -> Any:
    """A JSON attribute of the type of ``default``, or ``default`` where there is none."""
    text = file.attribute(name, "O")
    if text is None:
        return default
    try:
        value = json.loads(text)
    except (TypeError, ValueError, RecursionError) as problem:
        raise file.fail(f"attribute {name} is not JSON; the file may be damaged, write it again") from problem
    if not isinstance(value, type(default)):
        raise file.fail(f"attribute {name} is a JSON {type(value).__name__}, expected {type(default).__name__}")
    return value


def _unknown() -> dict[str, Any]:
    return {
        "method": "unknown",
        "model": None,
        "model_sha256": None,
        "sampling": None,
        "acceleration": None,
        "toolkit_version": None,
        "notice": NOT_FOR_CLINICAL_USE,
    }
