"""Reconstructions to files and back: the format by the path's suffix, or by name."""

from __future__ import annotations

import os
from pathlib import Path

from nirvana_mri.atomic import check_target
from nirvana_mri.errors import UsageError
from nirvana_mri.io.writers.derivation import Volumes, as_volumes
from nirvana_mri.io.writers.h5 import write_h5
from nirvana_mri.io.writers.load_h5 import load_h5
from nirvana_mri.io.writers.orientation import check_assumption
from nirvana_mri.volume import Volume

SUFFIXES = (".h5", ".hdf5")
FORMATS = {"h5": SUFFIXES, "nifti": (".nii.gz", ".nii"), "png": (".png",), "dicom": (".dcm",)}
SUPPORTED = ".h5, .hdf5, .nii, .nii.gz, .png, or a folder of DICOM files: NAME.dcm or NAME/"


def save(
    volumes: Volumes,
    path: str | Path,
    *,
    format: str | None = None,
    overwrite: bool = True,
    reference_dicom: str | Path | None = None,
    assume_orientation: str | None = None,
    floating: bool = False,
    keep_identifiers: bool = False,
) -> Path:
    """Write a volume, or several that lie in one place, whole or not at all; the path written.

    The format is "h5" (fastMRI-style), "nifti" (with a sidecar .json), "dicom" (a folder, one file per slice) or "png"
    (a contact sheet); by default it follows from the suffix, and ``NAME.dcm`` or ``NAME/`` is a DICOM folder. Several
    volumes need "nifti", "dicom" or "png". Every format says how the picture was made and that it is not for
    clinical use. ``assume_orientation`` is for scans that do not say how they lie (DICOM must know);
    ``reference_dicom``, ``floating`` and ``keep_identifiers`` are explained at ``write_dicom``.

    Raises: UsageError for a path or options that cannot work; DataError for voxels that are no volume or do not fit
    the format, or a disk that is full.
    """
    listed = as_volumes(volumes)
    kind = check_output(
        path,
        format=format,
        overwrite=overwrite,
        volumes=len(listed),
        reference_dicom=reference_dicom,
        assume_orientation=assume_orientation,
        floating=floating,
        keep_identifiers=keep_identifiers,
    )
    if kind == "h5":
        return write_h5(listed[0], path)
    if kind == "png":
        from nirvana_mri.io.writers.png import write_png

        return write_png(listed, path)
    if kind == "nifti":
        from nirvana_mri.io.writers.nifti import write_nifti

        return write_nifti(listed, path, assume_orientation=assume_orientation)
    from nirvana_mri.io.writers.dicom import write_dicom

    return write_dicom(
        listed,
        path,
        reference=reference_dicom,
        assume_orientation=assume_orientation,
        floating=floating,
        keep_identifiers=keep_identifiers,
    )


def check_output(
    path: str | Path,
    *,
    format: str | None = None,
    overwrite: bool = True,
    volumes: int = 1,
    orientation_known: bool | None = None,
    reference_dicom: str | Path | None = None,
    assume_orientation: str | None = None,
    floating: bool = False,
    keep_identifiers: bool = False,
) -> str:
    """The format that `save` would write; worth calling before long work. Raises: UsageError, as `save` would.

    ``orientation_known`` is the scan's, where it is known already.
    """
    kind = output_format(path, format)
    asked = {"reference_dicom": reference_dicom, "floating": floating, "keep_identifiers": keep_identifiers}
    unused = [name for name, value in asked.items() if value and kind != "dicom"]
    if assume_orientation and kind not in ("dicom", "nifti"):
        unused.append("assume_orientation")
    if unused:
        raise UsageError(f"{path}: {unused[0]} means nothing in {kind}; leave it out, or write DICOM (NAME.dcm)")
    if assume_orientation is not None:
        check_assumption(assume_orientation, orientation_known, path)
    if volumes > 1 and kind == "h5":
        raise UsageError(f"{path}: {volumes} volumes do not go into one .h5; choose .nii.gz or NAME.dcm, or one volume")
    if kind == "dicom":
        from nirvana_mri.io.writers.dicom import check_dicom_output

        known = orientation_known is not False or assume_orientation is not None
        check_dicom_output(path, known=known, floating=floating, reference=reference_dicom, keep=keep_identifiers)
    else:
        for place in _places(path, kind):
            check_target(place)
    for taken in _places(path, kind):
        if taken.exists() and not overwrite:
            raise UsageError(f"{taken} exists already; choose another name or allow overwriting")
    return kind


def output_format(path: str | Path, format: str | None = None) -> str:
    """The format's name. Raises: UsageError for a suffix or name that is not known, or where they disagree."""
    if format is not None and format not in FORMATS:
        raise UsageError(f"format is {format!r}; expected one of {', '.join(FORMATS)}")
    text = os.fspath(path)
    name = text.rstrip(os.sep).lower()
    folder = "dicom" if text.endswith(os.sep) else None
    by_suffix = next((kind for kind, suffixes in FORMATS.items() if name.endswith(suffixes)), folder)
    if folder and by_suffix != "dicom":
        raise UsageError(f"{path} is a folder by its last sign, a file by its suffix; leave out one of them")
    if format and by_suffix and format != by_suffix:
        raise UsageError(f"{path} is {by_suffix} by its suffix, and {format} was asked for; name a fitting path")
    if not format and not by_suffix:
        suffix = Path(path).suffix or "a file without suffix"
        raise UsageError(f"{path}: cannot write {suffix}; supported: {SUPPORTED}")
    return str(format or by_suffix)


def load_volume(path: str | Path, volume: int | None = None) -> Volume:
    """The reconstruction in a file that `save` wrote (HDF5 or NIfTI), or in any HDF5 with ``reconstruction``.

    ``volume`` picks one of several. Raises: DataError for what is not such a file, is damaged, points elsewhere, or
    holds NaN or Inf.
    """
    if Path(path).name.lower().endswith(FORMATS["nifti"]):
        from nirvana_mri.io.writers.load_nifti import load_nifti

        return load_nifti(path, volume)
    if volume:
        raise UsageError(f"{path}: volume {volume} is not there; an .h5 holds one, number 0")
    return load_h5(path)


def _places(path: str | Path, kind: str) -> list[Path]:
    """All that would be written."""
    if kind != "nifti":
        return [Path(path)]
    from nirvana_mri.io.writers.nifti import check_sidecar, sidecar_path

    check_sidecar(path)
    return [Path(path), sidecar_path(path)]
