"""The images of a derived DICOM series: what they share, how each came about, where it lies, and its pixels."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pydicom.valuerep import format_number_as_ds

from nirvana_mri.io.writers.derivation import (
    NOTICE,
    assumed,
    derivation_words,
    is_synthetic,
    method_words,
    plain,
    sampling_words,
)
from nirvana_mri.io.writers.dicom_reference import CODES, Reference
from nirvana_mri.io.writers.folder import WRITER
from nirvana_mri.io.writers.orientation import Planes
from nirvana_mri.volume import SYNTHETIC, Volume

WHITEST = 32767  # the brightest voxel of a series: 15 bits, so that readers that take pixels as signed agree
WINDOW = (1.0, 99.5)  # percentiles
IMPLEMENTATION = UID("2.25.236548136873526712086404931573412903117")  # what wrote the file, not whose picture it is
PAIRED = {"ANKLE", "BREAST", "ELBOW", "FOOT", "HAND", "HIP", "KNEE", "SHOULDER", "WRIST"}
# fastMRI's names of what it scanned say the body part; nothing else in such a file does.
BODY_PARTS = {
    **dict.fromkeys(("AXT1", "AXT1PRE", "AXT1POST", "AXT2", "AXFLAIR"), "BRAIN"),
    **dict.fromkeys(("CORPD_FBK", "CORPDFS_FBK"), "KNEE"),
}
TIMES = {"tr_ms": "RepetitionTime", "te_ms": "EchoTime", "ti_ms": "InversionTime"}
OTHER_NUMBERS = {"flip_angle_deg": "FlipAngle", "field_strength_t": "MagneticFieldStrength"}


def series(
    volumes: Sequence[Volume], place: Planes, source: Reference | None = None, *, pixels: bool = True
) -> Iterator[FileDataset]:
    """The images of a series, one at a time, slice by slice and volume by volume; without ``pixels`` their headers."""
    scale, window = _scale(volumes)
    common = _common(volumes[0], source)
    slices = len(volumes[0].voxels)
    for which, volume in enumerate(volumes):
        for number, picture in enumerate(volume.voxels):
            image = _file()
            image.update(common)
            image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid(prefix=None)
            image.InstanceNumber = which * slices + number + 1
            image.AcquisitionNumber = which + 1
            if len(volumes) > 1:
                image.TemporalPositionIdentifier, image.NumberOfTemporalPositions = which + 1, len(volumes)
                image.ContentDate = image.ContentTime = ""
            _describe(image, volume, scale)
            _place(image, place, number)
            image.Rows, image.Columns = picture.shape
            if pixels:
                _pixels(image, picture, scale, window)
            yield image


def _file() -> FileDataset:
    head = FileMetaDataset()
    head.MediaStorageSOPClassUID = MRImageStorage
    head.TransferSyntaxUID = ExplicitVRLittleEndian
    head.ImplementationClassUID = IMPLEMENTATION
    head.ImplementationVersionName = WRITER
    return FileDataset(None, {}, file_meta=head, preamble=bytes(128))  # type: ignore[arg-type]


def _common(volume: Volume, source: Reference | None) -> Dataset:
    """What all images of the series share."""
    shared = Dataset()
    shared.SpecificCharacterSet = "ISO_IR 192"
    shared.SOPClassUID = MRImageStorage
    shared.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    shared.Modality = "MR"
    shared.PatientName, shared.PatientID = "ANONYMOUS^NIRVANA", f"NIRVANA-{secrets.token_hex(6).upper()}"
    for name in ("PatientBirthDate", "PatientSex", "AccessionNumber", "ReferringPhysicianName"):
        setattr(shared, name, "")
    now = datetime.now(UTC)  # of writing; archives want a date, and the scan's own would help to find the patient
    shared.StudyDate, shared.StudyTime, shared.StudyID = now.strftime("%Y%m%d"), now.strftime("%H%M%S"), "NIRVANA"
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        setattr(shared, name, generate_uid(prefix=None))
    shared.PositionReferenceIndicator = ""
    shared.SeriesNumber = 9000 + secrets.randbelow(1000)  # beside, not among, the scanner's own
    shared.PatientPosition = ""
    shared.Manufacturer, shared.ManufacturerModelName = "nirvana-mri", plain(method_words(volume), 64)
    shared.SoftwareVersions = plain(str(volume.provenance.get("toolkit_version", "unknown")), 64)
    shared.BurnedInAnnotation = "NO"
    shared.ScanningSequence, shared.SequenceVariant, shared.ScanOptions = "RM", "NONE", ""  # unknown: "research mode"
    shared.MRAcquisitionType = shared.RepetitionTime = shared.EchoTime = shared.EchoTrainLength = ""
    _scan_values(shared, volume.provenance.get("metadata"))
    for name, value in (source.values if source else {}).items():
        setattr(shared, name, ds(value) if isinstance(value, float) else value)
    if shared.get("BodyPartExamined") in (*PAIRED, None):
        shared.Laterality = shared.get("Laterality", "")
    elif "Laterality" in shared:
        del shared.Laterality
    if "IR" in shared.ScanningSequence and "InversionTime" not in shared:
        shared.InversionTime = ""
    shared.ContributingEquipmentSequence = [_equipment(volume)]
    return shared


def _scan_values(shared: Dataset, metadata: Any) -> None:
    """What the scan's header said of the sequence, where the provenance carries it."""
    if not isinstance(metadata, Mapping):
        return
    for key, name in (TIMES | OTHER_NUMBERS).items():
        value = metadata.get(key)
        if isinstance(value, int | float) and np.isfinite(value) and value >= 0:
            setattr(shared, name, ds(value))
    part = metadata.get("body_part") or BODY_PARTS.get(str(metadata.get("acquisition")))
    if part in CODES["BodyPartExamined"]:
        shared.BodyPartExamined = part
    sequence = str(metadata.get("sequence", "")).split("+")
    if set(sequence) <= CODES["ScanningSequence"]:
        shared.ScanningSequence = sequence if len(sequence) > 1 else sequence[0]
    if metadata.get("encoding") in CODES["MRAcquisitionType"]:
        shared.MRAcquisitionType = metadata["encoding"]


def _equipment(volume: Volume) -> Dataset:
    """The toolkit, as what made the picture out of the measurement."""
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = "109102", "DCM", "Processing Equipment"
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [purpose]
    item.Manufacturer, item.ManufacturerModelName = "nirvana-mri", plain(method_words(volume), 64)
    item.SoftwareVersions = plain(str(volume.provenance.get("toolkit_version", "unknown")), 64)
    item.ContributionDescription = plain(derivation_words(volume), 1024)
    return item


def _describe(image: Dataset, volume: Volume, scale: float) -> None:
    """How the picture came about, in the places where viewers and people look."""
    made = f"{'SYNTHETIC K-SPACE ' if is_synthetic(volume) else ''}nirvana-mri {volume.provenance.get('method', '')}"
    image.SeriesDescription = plain(f"{NOTICE} {made}", 64)
    sha256 = volume.provenance.get("model_sha256")
    words = [derivation_words(volume), f"stored value = {scale:.9g} x voxel"]
    words += [f"model sha256 {sha256}"] if sha256 else []
    image.DerivationDescription = plain("; ".join(words), 1024)
    comments = [NOTICE, f"sampling {sampling_words(volume)}", *volume.warnings]
    comments += [SYNTHETIC] if is_synthetic(volume) else []
    if (orientation := assumed(volume)) is not None:
        comments.insert(1, f"orientation ASSUMED {orientation}, not from the scan")
    image.ImageComments = plain("; ".join(comments), 10240)


def _place(image: Dataset, place: Planes, number: int) -> None:
    dy, dx, dz = place.spacing
    position = place.positions[number]
    image.ImagePositionPatient = [ds(value) for value in position]
    image.ImageOrientationPatient = [ds(value) for value in (*place.row, *place.column)]
    image.PixelSpacing = [ds(dy), ds(dx)]
    image.SliceThickness = image.SpacingBetweenSlices = ds(dz)
    image.SliceLocation = ds(float(position @ place.normal))


def _pixels(image: Dataset, picture: NDArray[Any], scale: float, window: tuple[float, float]) -> None:
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit, image.PixelRepresentation = 15, 0
    image.WindowCenter, image.WindowWidth = ds(window[0]), ds(window[1])
    stored = np.rint(picture.astype(np.float64) * scale).astype("<u2").tobytes()
    image.PixelData = stored + bytes(len(stored) % 2)


def _scale(volumes: Sequence[Volume]) -> tuple[float, tuple[float, float]]:
    """The factor from voxels to stored values, and the window (centre, width) of the latter."""
    brightest = max(float(volume.voxels.max()) for volume in volumes)
    scale = WHITEST / brightest if brightest > 0 else 1.0
    ends = np.array([np.percentile(volume.voxels, WINDOW) for volume in volumes]) * scale
    low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
    width = max(round(high - low), 1)
    return scale, (float(round(low + width / 2)), float(width))


def ds(value: float) -> str:
    """A number as a decimal string of at most 16 characters."""
    return format_number_as_ds(float(value) + 0.0)
