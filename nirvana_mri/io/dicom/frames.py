"""One DICOM file → its images, each with its place, what kind of image it is, and how to fetch its pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.io.dicom.elements import DicomError, DicomHeader, Elements
from nirvana_mri.io.dicom.metadata import metadata_of
from nirvana_mri.io.dicom.packed import check_syntax
from nirvana_mri.io.dicom.pixels import PixelLayout, PixelPlace, pixel_layout, pixel_spans
from nirvana_mri.io.dicom.tags import UNREAD

MR_IMAGES = ("1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.4")
MODALITIES = ("CR", "CT", "DX", "ES", "IO", "MG", "MR", "NM", "OT", "PT", "PX", "RF", "SEG", "SM", "US", "XA", "XC")
LARGEST_FRAMES = 1 << 16
PARTS = {
    "MAGNITUDE": "magnitude",
    "PHASE": "phase",
    "PHASE MAP": "phase",
    "REAL": "real part",
    "IMAGINARY": "imaginary part",
    "M": "magnitude",
    "P": "phase",
    "R": "real part",
    "I": "imaginary part",
}
MAPS = ("ADC", "EADC", "FA", "TENSOR", "FIELDMAP", "B0", "B1", "CBF", "CBV", "MTT", "TTP", "T1MAP", "T2MAP", "VELOCITY")
GE_PARTS = ("magnitude", "phase", "real part", "imaginary part")


@dataclass(frozen=True, slots=True)
class Frame:
    """One image. Lengths in mm, directions and positions in DICOM's axes (LPS); a missing number is -1 in ``order``."""

    instance: tuple[str, int] = field(repr=False)
    part: str
    kind: tuple[str, ...]  # image type, without what ``part`` says
    shape: tuple[int, int]
    position: NDArray[np.float64]
    orientation: NDArray[np.float64]  # row direction, column direction: [2 3]
    normal: NDArray[np.float64]
    spacing: tuple[float, float]  # between rows, between columns
    depth: float | None  # of a slice that stands alone
    echo: float
    b_value: float
    direction: tuple[float, ...]
    time: int
    order: tuple[Any, ...]
    place: PixelPlace = field(repr=False)
    facts: Mapping[str, Any]


def frames_of(path: Path, header: DicomHeader) -> list[Frame]:
    """The images of one MR file. Raises: DicomError where it is no such file, or says too little; OSError."""
    check_syntax(header.syntax)
    elements = header.elements
    empty = header.pixels is None and elements.whole("Rows") < 0
    if empty or elements.text("Modality") != "MR" or elements.text("SOPClassUID") not in MR_IMAGES:
        raise DicomError(f"{what_it_is(header)}, expected MR images; give a series of those")
    layout = pixel_layout(header)
    count = max(elements.whole("NumberOfFrames", 1), 0)
    if not 0 < count <= LARGEST_FRAMES:
        raise DicomError(f"declares {count} frames, expected 1 to {LARGEST_FRAMES}")
    per_frame = elements.items.get("PerFrameFunctionalGroupsSequence")
    if per_frame is None and count > 1:
        raise DicomError(f"holds {count} frames but no place for each (functional groups); export it as Enhanced MR")
    if per_frame is not None and len(per_frame) != count:
        raise DicomError(f"declares {count} frames but describes {len(per_frame)}; copy it again from its source")
    spans = pixel_spans(path, header, layout, count)
    if per_frame is None:
        return [_frame(path, header, layout, spans[0], 0, elements, elements)]
    shared = elements.first("SharedFunctionalGroupsSequence")
    return [_frame(path, header, layout, spans[n], n, shared, item) for n, item in enumerate(per_frame)]


def what_it_is(header: DicomHeader) -> str:
    """The kind of a file in words of ours: its modality where that is a known code."""
    modality = header.elements.text("Modality")
    if header.syntax in UNREAD:
        return f"it is packed as {UNREAD[header.syntax]}"
    if header.pixels is None and header.elements.whole("Rows") < 0:
        return "it holds no image"
    if modality == "MR":
        return "it holds MR data that are no grey images (spectra, colour, or secondary capture)"
    return f"its modality is {modality}" if modality in MODALITIES else "it has no modality that is known here"


def _frame(
    path: Path,
    header: DicomHeader,
    layout: PixelLayout,
    span: tuple[tuple[int, int], ...],
    number: int,
    shared: Elements,
    own: Elements,
) -> Frame:
    top = header.elements
    single = own is top

    def group(name: str) -> Elements:
        return top if single else own.first(name) if name in own.items else shared.first(name)

    orientation, normal = _directions(group("PlaneOrientationSequence").numbers("ImageOrientationPatient"))
    position = _numbers(group("PlanePositionSequence").numbers("ImagePositionPatient"), 3, "ImagePositionPatient")
    measures = group("PixelMeasuresSequence")
    spacing = _numbers(measures.numbers("PixelSpacing"), 2, "PixelSpacing")
    if (spacing < 1e-4).any():
        raise DicomError(f"its PixelSpacing is {tuple(spacing.tolist())}, expected two lengths in mm")
    content = group("FrameContentSequence")
    diffusion = group("MRDiffusionSequence")
    echo = (top if single else group("MREchoSequence")).number("EchoTime" if single else "EffectiveEchoTime")
    b_value = diffusion.number("DiffusionBValue")
    b_value = _private_b_value(top) if b_value is None and single else b_value
    frame_type = group("MRImageFrameTypeSequence")
    part, kind = _kind(top, frame_type, top.texts("ImageType") if single else frame_type.texts("FrameType"))
    depth = measures.number("SpacingBetweenSlices") or measures.number("SliceThickness")
    return Frame(
        instance=(top.text("SOPInstanceUID"), number),
        part=part,
        kind=kind,
        shape=layout.shape,
        position=position,
        orientation=orientation,
        normal=normal,
        spacing=(float(spacing[0]), float(spacing[1])),
        depth=depth if depth and depth > 1e-4 else None,
        echo=-1.0 if echo is None else round(echo, 3),
        b_value=-1.0 if b_value is None else round(b_value, 3),
        direction=diffusion.first("DiffusionGradientDirectionSequence").numbers("DiffusionGradientOrientation"),
        time=top.whole("TemporalPositionIdentifier") if single else content.whole("TemporalPositionIndex"),
        order=(
            content.numbers("DimensionIndexValues"),
            round(top.number("TriggerTime") or -1.0, 3),
            top.whole("AcquisitionNumber"),
            top.whole("InstanceNumber"),
            number,
        ),
        place=PixelPlace(path, header.size, layout, span, *_rescale(group("PixelValueTransformationSequence"))),
        facts=metadata_of(top, shared, own, te_ms=echo, b_value=b_value),
    )


def _numbers(found: tuple[float, ...], count: int, name: str) -> NDArray[np.float64]:
    if len(found) != count or max(map(abs, found)) > 1e6:
        raise DicomError(f"has no usable {name} ({len(found)} numbers, expected {count}); its place is unknown")
    return np.array(found)


def _directions(found: tuple[float, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The unit vectors along a row and along a column, ``[2 3]``, and their normal."""
    vectors = _numbers(found, 6, "ImageOrientationPatient").reshape(2, 3)
    lengths = np.linalg.norm(vectors, axis=1)
    if (abs(lengths - 1) > 0.01).any() or abs(vectors[0] @ vectors[1]) > 0.01:
        raise DicomError("its ImageOrientationPatient is no pair of unit vectors at right angles; repair its header")
    vectors = vectors / lengths[:, None]
    return vectors, np.cross(vectors[0], vectors[1])


def _kind(top: Elements, frame_type: Elements, image_type: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """(magnitude, phase, ..., map; the other codes of the image type)."""
    codes = tuple(code.upper() for code in image_type)
    if any(code in MAPS or (code.endswith((" MAP", "_MAP")) and code not in PARTS) for code in codes[2:]):
        return "map", codes
    parts = [PARTS[code] for code in codes[2:] if code in PARTS]
    component = PARTS.get(frame_type.text("ComplexImageComponent").upper())
    ge = top.whole("GeImageKind") if top.text("GeParameterCreator") == "GEMS_PARM_01" else 0
    part = next((part for part in [*parts, component] if part and part != "magnitude"), "magnitude")
    if part == "magnitude" and 0 <= ge < len(GE_PARTS):
        part = GE_PARTS[ge]
    return part, tuple(code for code in codes if code not in PARTS)


def _private_b_value(top: Elements) -> float | None:
    if top.text("SiemensHeaderCreator") == "SIEMENS MR HEADER":
        return top.number("SiemensBValue")
    if top.text("GeParameterCreator") == "GEMS_PARM_01":
        value = top.number("GeBValue")
        return None if value is None else math.fmod(value, 1e9)
    return None


def _rescale(values: Elements) -> tuple[float, float]:
    """(slope, intercept) from stored to displayed values; Philips' private second scale is not used."""
    slope, intercept = values.number("RescaleSlope"), values.number("RescaleIntercept")
    present = "RescaleSlope" in values.values and values.values["RescaleSlope"][1].strip(b" \0")
    if (present and slope is None) or slope == 0:
        raise DicomError("its RescaleSlope is no number other than 0; repair its header")
    return 1.0 if slope is None else slope, intercept or 0.0
