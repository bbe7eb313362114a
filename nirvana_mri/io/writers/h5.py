"""Volume → fastMRI-style HDF5: what evaluate and fastMRI's own tools read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from nirvana_mri.atomic import atomic_path
from nirvana_mri.errors import DataError
from nirvana_mri.io.writers.derivation import check_volumes, to_json
from nirvana_mri.volume import NOT_FOR_CLINICAL_USE, Volume

FLAT = ("method", "model", "model_sha256", "acceleration", "toolkit_version")  # provenance also as plain attributes


def write_h5(volume: Volume, path: str | Path) -> Path:
    """Write ``volume`` as fastMRI-style HDF5, whole or not at all; the path written.

    ``reconstruction`` is float32 (complex64 where the phase was kept) ``[slice, ny, nx]``, ``mask`` the sampling
    used, ``trust_NAME`` are maps of some slices where trust was measured; the attributes say how it was made and that
    it is not for clinical use.

    Raises: UsageError for a path that cannot be a file; DataError for voxels that are no volume, or a full disk.
    """
    path = Path(path)
    check_volumes([volume], path)
    provenance = {**volume.provenance, "notice": NOT_FOR_CLINICAL_USE}
    text = to_json(provenance, path)
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
    for name, pictures in volume.maps.items():
        file[f"trust_{name}"] = pictures.astype(np.float32, copy=False)
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
