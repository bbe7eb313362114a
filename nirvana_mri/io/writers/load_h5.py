"""fastMRI-style HDF5 with a reconstruction, ours or made elsewhere, → Volume."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from nirvana_mri.errors import DataError
from nirvana_mri.io.hdf5 import LARGEST_READ, SafeFile
from nirvana_mri.io.names import type_words
from nirvana_mri.io.writers.derivation import unknown_provenance
from nirvana_mri.volume import Volume

LARGEST_MASK = 1 << 26  # elements
MAPS = ("invented", "error_scale", "error_bar")


def load_h5(path: str | Path) -> Volume:
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
        provenance = {**unknown_provenance(), **_json(file, "provenance", {})}
        name = file.attribute("name", "O") if provenance["toolkit_version"] else None  # another's may be a person's
        return Volume(
            voxels=voxels,
            affine=np.eye(4) if affine is None else affine.astype(np.float64),
            mask=_mask(file),
            provenance=provenance,
            name=name if isinstance(name, str) else path.stem,
            slices=tuple(range(voxels.shape[0])) if slices is None else tuple(int(n) for n in slices),
            orientation_known=known is True,
            warnings=tuple(str(note) for note in _json(file, "warnings", [])),
            maps=_maps(file, voxels.shape, provenance),
        )


def holds_reconstruction(path: str | Path) -> bool:
    """True for an HDF5 file with a reconstruction and no k-space."""
    path = Path(path)
    if not path.is_file() or not h5py.is_hdf5(path):
        return False
    with SafeFile(path, DataError) as file:
        return file.has("reconstruction") and not file.has("kspace")


def _voxels(file: SafeFile) -> NDArray[Any]:
    if not file.has("reconstruction"):
        raise file.fail("no dataset reconstruction; is it a scan? reconstruct it first")
    dataset = file.dataset("reconstruction")
    with file.reading("reconstruction"):
        dtype, shape = dataset.dtype, dataset.shape
    if dtype.kind not in "fc" or len(shape) != 3 or 0 in shape:
        raise file.fail(
            f"reconstruction is {type_words(dtype)} {shape}, expected real or complex (slices, rows, columns)"
        )
    if math.prod(shape) * 8 > LARGEST_READ:
        raise file.fail(f"reconstruction is {shape}, beyond {LARGEST_READ >> 30} GiB; split the file")
    voxels = np.empty(shape, np.complex64 if dtype.kind == "c" else np.float32)
    with file.reading("reconstruction"):
        dataset.read_direct(voxels)
    if not np.isfinite(voxels).all():
        raise file.fail("reconstruction has NaN or Inf; reconstruct again")
    return voxels


def _maps(file: SafeFile, shape: tuple[int, ...], provenance: Mapping[str, Any]) -> dict[str, NDArray[np.float32]]:
    """The maps of some slices, where trust was measured."""
    trust = provenance.get("trust")
    count = len(trust.get("slices") or ()) if isinstance(trust, Mapping) else 0
    expected = (count, *shape[1:])
    maps = {}
    for name in MAPS if count else ():
        if file.has(f"trust_{name}"):
            found = file.array(f"trust_{name}", largest=math.prod(expected))
            if found.shape != expected or found.dtype.kind != "f" or not np.isfinite(found).all():
                raise file.fail(f"trust_{name} is {found.dtype} {found.shape}, expected finite floats {expected}")
            maps[name] = found.astype(np.float32, copy=False)
    return maps


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
