"""What a derived DICOM series takes over from its source series: by an explicit allow-list, and only what is checked.

Left out whatever the options: institution, device, station, operators, protocol and series texts, private elements.
"""

from __future__ import annotations

import math
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.config import RAISE
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID

from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.io.writers.orientation import Planes

LINKS = ("StudyInstanceUID", "FrameOfReferenceUID")
CODES = {
    "ScanningSequence": {"SE", "IR", "GR", "EP", "RM"},
    "SequenceVariant": {"SK", "MTC", "SS", "TRSS", "SP", "MP", "OSP", "NONE"},
    "ScanOptions": {"PER", "RG", "CG", "PPG", "FC", "PFF", "PFP", "SP", "FS"},
    "MRAcquisitionType": {"2D", "3D"},
    "PatientPosition": {"HFS", "HFP", "FFS", "FFP", "HFDR", "HFDL", "FFDR", "FFDL"},
    "BodyPartExamined": {
        *("ABDOMEN", "ANKLE", "BRAIN", "BREAST", "CHEST", "CSPINE", "ELBOW", "FOOT", "HAND", "HEAD", "HEART", "HIP"),
        *("KNEE", "LSPINE", "NECK", "PELVIS", "PROSTATE", "SHOULDER", "SPINE", "TSPINE", "WRIST"),
    },
    "Laterality": {"R", "L"},
}
NUMBERS = {  # greatest value that a scanner can mean
    "RepetitionTime": 1e6,
    "EchoTime": 1e5,
    "InversionTime": 1e6,
    "EchoTrainLength": 1e4,
    "FlipAngle": 360.0,
    "MagneticFieldStrength": 30.0,
}
IDENTIFYING = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge", "PatientSize"),
    *("PatientWeight", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
    "StudyDescription",
)
LOOKED_AT = [
    *LINKS,
    *CODES,
    *NUMBERS,
    *IDENTIFYING,
    *(
        "SeriesInstanceUID",
        "SOPClassUID",
        "SOPInstanceUID",
        "Rows",
        "Columns",
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
    ),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
]
DEFLATED = ("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95")
PROBLEMS = (OSError, EOFError, ValueError, KeyError, AttributeError, TypeError, NotImplementedError)
BROKEN = (*PROBLEMS, struct.error, BytesLengthException)
LARGEST_FOLDER = 20000  # files
CONE = 0.01  # radians between slice normals


@dataclass(frozen=True)
class Instance:
    """Which image a file holds, by UIDs."""

    sop_class: str
    sop_instance: str
    series: str


@dataclass(frozen=True, eq=False)
class Reference:
    """The values to take over by DICOM keyword, and where the source's slices lie (LPS, mm)."""

    values: dict[str, Any]
    normals: NDArray[np.float64]  # [slice, 3]
    centres: NDArray[np.float64]  # [slice, 3]
    instances: tuple[Instance, ...] = ()  # where identifiers are kept


def read_reference(path: str | Path, keep_identifiers: bool = False) -> Reference:
    """The reference in a DICOM file or a folder that holds one series.

    Taken over: Study and FrameOfReference UID, which tie the new series to its source and are what a reference is for;
    patient position, body part and laterality, sequence codes and times, each only where its value is one of those
    that the standard names, or a sensible number. Only ``keep_identifiers`` adds patient and study modules: names,
    ids, dates.

    Raises: UsageError for a path without DICOM; DataError for a damaged file, or several series.
    """
    path = Path(path)
    heads = list(_heads(path))
    if not heads:
        raise UsageError(f"{path}: no DICOM file, expected one of the source series, or its folder")
    if len({str(head.get("SeriesInstanceUID")) for head in heads}) > 1:
        raise DataError(f"{path}: holds several series, expected the source series alone; name one of its files")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = _values(heads[0], keep_identifiers)
            found = [plane for head in heads for plane in _planes(head)]
        planes = np.array(found, float).reshape(-1, 2, 3)
    except (*BROKEN, IndexError, OverflowError):
        raise DataError(f"{path}: has values that DICOM does not allow there; name another reference") from None
    if not len(planes) or not np.isfinite(planes).all():
        raise DataError(f"{path}: does not say where its slices lie; name an original MR image as reference")
    instances = tuple(image for head in heads if (image := _instance(head))) if keep_identifiers else ()
    return Reference(values, planes[:, 0], planes[:, 1], instances)


def check_agreement(reference: Reference, ours: Planes, shape: tuple[int, int, int], path: str | Path) -> None:
    """Nothing, where the picture lies in the reference's slices: parallel, and each centre on one of theirs (a
    reference of one slice: one centre) to within a voxel. Raises: DataError."""
    _, ny, nx = shape
    dy, dx, dz = ours.spacing
    angles = np.arccos(np.clip(np.abs(reference.normals @ ours.normal), 0, 1))
    if angles.max() > CONE:
        raise DataError(
            f"{path}: the slices are tilted by {math.degrees(angles.max()):.1f}° against the reference; "
            "name the series of this scan"
        )
    centres = ours.positions + ours.row * dx * (nx - 1) / 2 + ours.column * dy * (ny - 1) / 2
    missed = np.array([np.linalg.norm(reference.centres - centre, axis=1).min() for centre in centres])
    worst = missed.min() if len(reference.centres) == 1 else missed.max()
    if worst > max(dx, dy, dz / 2):
        raise DataError(f"{path}: a slice lies {worst:.1f} mm beside the reference's; name the series of this scan")


def _heads(path: Path) -> Iterator[Dataset]:
    """The headers of all DICOM files, pixels left out."""
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder; expected the source series (DICOM)")
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    if len(files) > LARGEST_FOLDER:
        raise DataError(f"{path}: {len(files)} files, at most {LARGEST_FOLDER} are looked at; name one of them")
    for number, file in enumerate(files, 1):
        if not file.is_file():
            continue
        alone = file == path  # else its name was found here, and may hold a person's
        head = _head(file, f"{path}:" if alone else f"{path}: file {number} in the order of names", alone)
        if head is not None:
            yield head


def _head(file: Path, where: str, alone: bool) -> Dataset | None:
    """The elements that are looked at; None for a file that is not DICOM, unless it was asked for ``alone``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom repeats values, which may name a person
            if str(read_file_meta_info(file).get("TransferSyntaxUID", "")).startswith(DEFLATED):
                raise DataError(f"{where} is deflated, which may hide any size; name a file as the scanner wrote it")
            with file.open("rb") as stream:  # pydicom would log the file's name
                return pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=LOOKED_AT)
    except InvalidDicomError:
        if alone:
            raise UsageError(f"{where} not a DICOM file, expected one of the source series") from None
        return None
    except BROKEN:
        raise DataError(f"{where} cannot be read as DICOM; is it complete?") from None


def _values(head: Dataset, keep_identifiers: bool) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name in LINKS if keep_identifiers else ():  # scanners write their serial number and the date into UIDs
        uid = UID(str(head.get(name, "")))
        if uid and uid.is_valid:
            values[name] = uid
    for name, allowed in CODES.items():
        found = head.get(name)
        codes = [str(code) for code in ([found] if isinstance(found, str) else found or [])]
        if codes and set(codes) <= allowed:
            values[name] = codes if len(codes) > 1 else codes[0]
    for name, largest in NUMBERS.items():
        found = head.get(name)
        if isinstance(found, int | float) and math.isfinite(found) and 0 <= found <= largest:
            values[name] = int(found) if isinstance(found, int) else float(found)
    for name in IDENTIFYING if keep_identifiers else ():
        if name in head:
            values[name] = _text(head, name)
    return values


def _instance(head: Dataset) -> Instance | None:
    """What names the image; None where a UID is missing or no UID."""
    uids = [UID(str(head.get(name, ""))) for name in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID")]
    return Instance(*uids) if all(uid and uid.is_valid for uid in uids) else None


def _text(head: Dataset, name: str) -> str:
    """An identifying text, as it may be written again; its value is in no message."""
    text = str(head[name].value or "")
    try:
        DataElement(name, head[name].VR, text, validation_mode=RAISE)
    except ValueError:
        raise ValueError(f"{name} is not allowed") from None
    return text


def _planes(head: Dataset) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """(normal, centre) of each frame; none where the file does not say."""
    shared = _first(head, "SharedFunctionalGroupsSequence")
    frames = head.get("PerFrameFunctionalGroupsSequence") or [head]
    for frame in frames:
        position = _find(frame, shared, "PlanePositionSequence", "ImagePositionPatient")
        orientation = _find(frame, shared, "PlaneOrientationSequence", "ImageOrientationPatient")
        spacing = _find(frame, shared, "PixelMeasuresSequence", "PixelSpacing")
        if position is None or orientation is None or spacing is None:
            return
        row, column = np.array(orientation, float).reshape(2, 3)
        down, across = (float(length) for length in spacing)
        middle = row * across * (int(head.Columns) - 1) / 2 + column * down * (int(head.Rows) - 1) / 2
        yield np.cross(row, column), np.array(position, float) + middle


def _find(frame: Dataset, shared: Dataset | None, group: str, name: str) -> Any:
    for place in (frame, _first(frame, group), _first(shared, group)):
        if place is not None and place.get(name) is not None:
            return place.get(name)
    return None


def _first(place: Dataset | None, group: str) -> Dataset | None:
    items = place.get(group) if place is not None else None
    return items[0] if items else None
