"""Volumes → a derived DICOM series: classic MR images, one file per slice, in the place where the scan lay."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from pydicom.dataset import Dataset

from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.io.writers.derivation import (
    Volumes,
    as_volumes,
    assumed,
    check_even,
    check_volumes,
)
from nirvana_mri.io.writers.dicom_reference import check_agreement, read_reference
from nirvana_mri.io.writers.dicom_series import series
from nirvana_mri.io.writers.folder import atomic_folder, check_folder
from nirvana_mri.io.writers.orientation import ORIENTATIONS, planes, with_orientation
from nirvana_mri.volume import Volume

LARGEST_SIDE, LARGEST_SERIES = 65535, 20000  # pixels; files


def write_dicom(
    volumes: Volumes,
    folder: str | Path,
    *,
    reference: str | Path | None = None,
    assume_orientation: str | None = None,
    floating: bool = False,
    keep_identifiers: bool = False,
) -> Path:
    """Write volumes as one series in ``folder``, whole or not at all; the folder.

    Series and instances get new, random UIDs each time. Without a reference so do study and frame of reference, the
    patient is ANONYMOUS with a random number, and all dates are those of writing. ``reference`` is a file of the
    source series, or its folder: the picture must lie in its slices, and `read_reference` says what is taken over;
    only ``keep_identifiers`` lets names, ids, dates and the UIDs of study and frame of reference through (scanners
    write serial numbers and dates into UIDs): pass it before sending a series to an archive that has the patient.

    Pixels are unsigned 16-bit on one scale for all slices and volumes, which DerivationDescription names; several
    volumes are temporal positions of one series. ``floating`` writes one ParametricMap of 32-bit floats per volume
    instead (needs highdicom). ``assume_orientation`` is as for `with_orientation`; derivation and comments then say so.

    Raises: UsageError for a scan without orientation, or a folder with foreign files; DataError for voxels that DICOM
    cannot hold (complex, negative, skewed), a reference that lies elsewhere, or a full disk; MissingExtraError.
    """
    folder = Path(folder)
    given = [with_orientation(volume, assume_orientation, folder) for volume in as_volumes(volumes)]
    check_volumes(given, folder)
    known = given[0].orientation_known
    check_dicom_output(folder, known=known, floating=floating, reference=reference, keep=keep_identifiers)
    _check_voxels(given, folder, floating)
    check_even(given[0], folder)
    place = planes(given[0], folder)
    source = None if reference is None else read_reference(reference, keep_identifiers)
    if source is not None:
        if assumed(given[0]) is None:
            check_agreement(source, place, given[0].voxels.shape, folder)
        else:
            source.values.pop("FrameOfReferenceUID", None)  # the position is made up
    files: Iterable[Dataset] = series(given, place, source, pixels=not floating)
    if floating:
        from nirvana_mri.io.writers.dicom_float import float_maps

        files = float_maps(given, list(files))
    try:
        with atomic_folder(folder) as temporary:
            for number, file in enumerate(files, 1):
                file.save_as(temporary / f"{number:05d}.dcm", enforce_file_format=True)
    except OSError as problem:
        raise DataError(f"{folder}: cannot be written ({problem}); check space and permissions") from problem
    return folder


def check_dicom_output(
    folder: str | Path,
    *,
    known: bool = True,
    floating: bool = False,
    reference: str | Path | None = None,
    keep: bool = False,
) -> None:
    """Nothing, where a series can be written there with these options; else UsageError."""
    if not known:
        raise UsageError(
            f"{folder}: DICOM must say how the patient lay, and the scan does not; give assume_orientation "
            f"({', '.join(ORIENTATIONS)}), or write .nii.gz"
        )
    if keep and reference is None:
        raise UsageError(f"{folder}: keep_identifiers without reference_dicom, which alone holds any; give one")
    if reference is not None and not Path(reference).exists():
        raise UsageError(f"{reference}: no such file or folder; expected the source series (DICOM)")
    if floating:
        from nirvana_mri.io.writers.dicom_float import check_highdicom

        check_highdicom()
    check_folder(folder)


def _check_voxels(volumes: Sequence[Volume], folder: Path, floating: bool) -> None:
    slices, ny, nx = volumes[0].voxels.shape
    if volumes[0].voxels.dtype.kind == "c":
        raise DataError(f"{folder}: voxels are complex, DICOM holds magnitudes; leave out the phase, or write .nii.gz")
    if max(ny, nx) > LARGEST_SIDE or slices * len(volumes) > LARGEST_SERIES:
        found = f"{slices * len(volumes)} slices of {ny} x {nx}"
        raise DataError(f"{folder}: {found}, at most {LARGEST_SERIES} of {LARGEST_SIDE} a side; write .nii.gz")
    if not floating and min(float(volume.voxels.min()) for volume in volumes) < 0:
        raise DataError(f"{folder}: voxels are below zero, unsigned pixels cannot hold them; use floating, or .nii.gz")
