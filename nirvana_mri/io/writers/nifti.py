"""Volumes → NIfTI-1 and a sidecar JSON that says how they were made."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from nirvana_mri.atomic import atomic_path
from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.io.writers.derivation import (
    NOTICE,
    Volumes,
    as_volumes,
    assumed,
    check_even,
    check_volumes,
    is_synthetic,
    method_words,
    plain,
    record,
    to_json,
)
from nirvana_mri.io.writers.orientation import with_orientation
from nirvana_mri.volume import NOT_FOR_CLINICAL_USE, SYNTHETIC, Volume

SUFFIXES = (".nii", ".nii.gz")
LARGEST_SIDE = 32767  # a NIfTI-1 length is a signed 16-bit number
SCANNER, ALIGNED, UNKNOWN = 1, 2, 0  # form codes
LEVEL = 4  # of gzip: noise does not pack better at 9, only slower


def write_nifti(volumes: Volumes, path: str | Path, *, assume_orientation: str | None = None) -> Path:
    """Write volumes as NIfTI-1, and a sidecar ``.json`` beside it; both whole or not at all. The path of the picture.

    The data are ``[nx, ny, slice]``, with a fourth axis for several volumes; float32, complex64 where the phase was
    kept, never scaled. Lengths are in mm. Both form codes are 1 (scanner) where the scan says how it lies, 2 (aligned)
    where the user does (``assume_orientation``, see `with_orientation`), and 0 (unknown) where nobody does: then
    readers fall back on the voxel sizes. An affine with skew is only in the sform. The sidecar holds provenance,
    warnings, orientation and the picture's SHA-256, so that the two can be matched. The same volumes give the same
    bytes.

    Raises: UsageError for a path that cannot be a file, or where the sidecar would replace a file that is not one;
    DataError for voxels or an affine that cannot be written, or a full disk.
    """
    path = Path(path)
    volumes = [with_orientation(volume, assume_orientation, path) for volume in as_volumes(volumes)]
    check_volumes(volumes, path)
    check_even(volumes[0], path)
    check_sidecar(path)
    header = _header(volumes, path)
    records = [{**record(volume, path), **_mask(volume)} for volume in volumes]
    try:
        with atomic_path(path) as picture:
            digest = _write(picture, header, volumes, zipped=path.name.lower().endswith(".gz"))
            text = to_json(_sidecar(records, volumes, digest), path, indent=1)
            with atomic_path(sidecar_path(path)) as beside:  # in place first: no picture without its provenance
                beside.write_text(text + "\n", encoding="utf-8")
    except OSError as problem:
        raise DataError(f"{path}: cannot be written ({problem}); check space and permissions") from problem
    return path


def sidecar_path(path: str | Path) -> Path:
    """``X.json`` for ``X.nii`` and ``X.nii.gz``."""
    path = Path(path)
    name = path.name
    for suffix in reversed(SUFFIXES):
        if name.lower().endswith(suffix):
            return path.with_name(name[: -len(suffix)] + ".json")
    return path.with_name(name + ".json")


def check_sidecar(path: str | Path) -> None:
    """Nothing, where the sidecar's place is free or holds one of ours; else UsageError."""
    beside = sidecar_path(path)
    if not beside.exists():
        return
    try:
        ours = json.loads(beside.read_bytes()[: 1 << 26]).get("notice") == NOT_FOR_CLINICAL_USE
    except (OSError, ValueError, AttributeError, RecursionError):
        ours = False
    if not ours:
        raise UsageError(f"{beside} is there and no sidecar of nirvana-mri's; choose another name than {path}")


def _header(volumes: Sequence[Volume], path: Path) -> nibabel.Nifti1Header:
    first = volumes[0]
    affine = np.asarray(first.affine, np.float64)
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or np.linalg.matrix_rank(affine) < 4:
        raise DataError(f"{path}: the affine {affine.shape} cannot be inverted, expected finite 4x4; nothing written")
    slices, ny, nx = first.voxels.shape
    shape = (nx, ny, slices) if len(volumes) == 1 else (nx, ny, slices, len(volumes))
    if max(shape) > LARGEST_SIDE:
        raise DataError(f"{path}: {shape} voxels, NIfTI-1 holds at most {LARGEST_SIDE} along an axis; write .h5")
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.complex64 if first.voxels.dtype.kind == "c" else np.float32)
    header.set_data_shape(shape)
    header.set_xyzt_units("mm")
    header.set_slope_inter(1, 0)
    code = UNKNOWN if not first.orientation_known else ALIGNED if assumed(first) else SCANNER
    header.set_qform(affine, code, strip_shears=True)
    header.set_sform(affine, code)
    if not np.allclose(header.get_qform(), affine, rtol=0, atol=1e-3):
        header.set_qform(affine, UNKNOWN, strip_shears=True)
    header["descrip"] = _description(first).encode("ascii", "replace")
    header["magic"] = b"n+1"
    header["vox_offset"] = 352
    return header


def _description(volume: Volume) -> str:
    """What 79 characters can say."""
    words = f"{NOTICE}; {'SYNTHETIC K-SPACE; ' if is_synthetic(volume) else ''}{method_words(volume)}"
    return plain(words)[:79]


def _write(target: Path, header: nibabel.Nifti1Header, volumes: Sequence[Volume], zipped: bool) -> str:
    """Write the picture slice by slice; the SHA-256 of its bytes before packing."""
    digest, kind = hashlib.sha256(), header.get_data_dtype()
    with _stream(target, zipped) as stream:
        start = header.binaryblock + bytes(4)  # no extension follows
        digest.update(start)
        stream.write(start)
        for volume in volumes:
            for picture in volume.voxels:  # [ny, nx] in C order is [nx, ny] in NIfTI's
                values = _contiguous(picture, kind)
                digest.update(values)
                stream.write(values)
    return digest.hexdigest()


@contextmanager
def _stream(target: Path, zipped: bool) -> Iterator[IO[bytes]]:
    with target.open("xb") as raw:
        if not zipped:
            yield raw
            return
        with gzip.GzipFile("", "wb", LEVEL, raw, mtime=0) as packed:
            yield packed  # type: ignore[misc]


def _contiguous(picture: NDArray[Any], kind: np.dtype[Any]) -> memoryview:
    return np.ascontiguousarray(picture, kind).data.cast("B")


def _mask(volume: Volume) -> dict[str, Any]:
    """The sampling used, eight samples in a byte."""
    if not volume.mask.size:
        return {}
    packed = base64.b64encode(np.packbits(volume.mask.astype(bool)).tobytes()).decode()
    return {"mask": {"shape": list(volume.mask.shape), "packed_bits": packed}}


def _sidecar(records: list[dict[str, Any]], volumes: Sequence[Volume], digest: str) -> dict[str, Any]:
    common: dict[str, Any] = {"notice": NOT_FOR_CLINICAL_USE}
    if any(made["synthetic_kspace"] for made in records):
        common["stamp"] = SYNTHETIC
    common |= {"affine": np.asarray(volumes[0].affine, float).tolist(), "image_sha256": digest}
    if len(records) == 1:
        return {**common, **records[0]}
    return {**common, "orientation_known": records[0]["orientation_known"], "volumes": records}
