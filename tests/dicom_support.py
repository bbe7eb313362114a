"""DICOM series made by pydicom for the tests: small, of random pixels, oblique."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

MR, ENHANCED_MR = UID("1.2.840.10008.5.1.4.1.1.4"), UID("1.2.840.10008.5.1.4.1.1.4.1")
SHAPE = (12, 16)  # rows, columns
SPACING = (1.5, 0.75)  # between rows, between columns
STEP = 4.0
# A double-oblique, proper rotation: columns are the row direction, the column direction and the normal.
TURN = np.linalg.qr(np.array([[1.0, 0.2, -0.1], [-0.3, 0.9, 0.2], [0.1, -0.1, 1.0]]))[0]
TURN *= np.sign(np.diag(TURN))
ORIGIN = np.array([-20.0, -31.0, 7.0])


def pixels(number: int, shape: tuple[int, int] = SHAPE) -> NDArray[np.uint16]:
    return np.random.default_rng(number).integers(0, 4000, shape).astype(np.uint16)


def position(number: float) -> list[str]:
    return [f"{value:.8f}" for value in ORIGIN + TURN[:, 2] * STEP * number]


def orientation() -> list[str]:
    return [f"{value:.9f}" for value in (*TURN[:, 0], *TURN[:, 1])]


def expected_affine() -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3, :3] = TURN * [SPACING[1], SPACING[0], STEP]
    affine[:3, 3] = ORIGIN
    return np.diag([-1.0, -1, 1, 1]) @ affine


def common(sop_class: UID, series: str) -> Dataset:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID = sop_class, generate_uid()
    made.SeriesInstanceUID, made.StudyInstanceUID = series, "1.2.3"
    made.Modality, made.Manufacturer, made.SeriesNumber = "MR", "SIEMENS", 4
    made.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
    made.MagneticFieldStrength = 3
    made.Rows, made.Columns = SHAPE
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 12, 11, 0
    return made


def single(number: float, instance: int, *, series: str = "1.2.3.4", seed: int | None = None) -> Dataset:
    """Slice ``number`` of a series, as one single-frame file."""
    made = common(MR, series)
    made.InstanceNumber, made.EchoTime, made.RepetitionTime, made.FlipAngle = instance, 30, 2000, 90
    made.ScanningSequence, made.SliceThickness = ["GR", "EP"], 3
    made.ImagePositionPatient, made.ImageOrientationPatient = position(number), orientation()
    made.PixelSpacing = list(SPACING)
    made.PixelData = pixels(instance if seed is None else seed).tobytes()
    return made


def save(made: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(path, enforce_file_format=True)
    return path


def write_series(
    folder: Path,
    slices: int = 5,
    volumes: int = 1,
    change: Callable[[Dataset, int, int], Dataset | None] = lambda made, _slice, _volume: made,
) -> Path:
    """A series in files whose names say nothing of their order; ``change`` may alter or drop (None) each one.

    Slice s of volume v holds ``pixels(v * slices + s + 1)``.
    """
    names = np.random.default_rng(0).permutation(slices * volumes)
    for volume in range(volumes):
        for number in range(slices):
            instance = volume * slices + number + 1
            made = change(single(number, instance), number, volume)
            if made is not None:
                save(made, folder / f"{names[instance - 1]:04d}.dcm")
    return folder


def item(**values: object) -> Dataset:
    made = Dataset()
    for name, value in values.items():
        setattr(made, name, value)
    return made


def enhanced(slices: int = 4, volumes: int = 2, *, echoes: bool = False) -> Dataset:
    """A multi-frame file, its frames stored from the last slice to the first; volumes are times (or echoes)."""
    made = common(ENHANCED_MR, "1.2.3.5")
    pointers = (0x00209056, 0x00209057, 0x00209128)
    made.DimensionIndexSequence = [item(DimensionIndexPointer=pointer) for pointer in pointers]
    made.SharedFunctionalGroupsSequence = [
        item(
            PlaneOrientationSequence=[item(ImageOrientationPatient=orientation())],
            PixelMeasuresSequence=[item(PixelSpacing=list(SPACING), SliceThickness=3, SpacingBetweenSlices=STEP)],
            MRTimingAndRelatedParametersSequence=[item(RepetitionTime=500, FlipAngle=52)],
        )
    ]
    frames, content = [], []
    for number in reversed(range(slices)):
        for volume in range(volumes):
            frames.append(
                item(
                    FrameContentSequence=[
                        item(
                            DimensionIndexValues=[1, number + 1, volume + 1],
                            TemporalPositionIndex=1 if echoes else volume + 1,
                        )
                    ],
                    PlanePositionSequence=[item(ImagePositionPatient=position(number))],
                    MREchoSequence=[item(EffectiveEchoTime=10.0 + (5.0 * volume if echoes else 0))],
                    MRImageFrameTypeSequence=[
                        item(FrameType=["ORIGINAL", "PRIMARY", "T1", "NONE"], ComplexImageComponent="MAGNITUDE")
                    ],
                    PixelValueTransformationSequence=[item(RescaleSlope=volume + 0.5, RescaleIntercept=-number)],
                )
            )
            content.append(pixels(volume * slices + number + 1))
    made.PerFrameFunctionalGroupsSequence = frames
    made.NumberOfFrames = len(frames)
    made.PixelData = np.stack(content).tobytes()
    return made
