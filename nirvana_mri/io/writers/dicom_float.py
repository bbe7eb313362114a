"""Volumes as DICOM ParametricMaps: voxels as 32-bit floats, through highdicom."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Iterator, Sequence

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from nirvana_mri.errors import MissingExtraError
from nirvana_mri.io.writers.derivation import plain
from nirvana_mri.io.writers.folder import WRITER
from nirvana_mri.volume import Volume

# The classic images lend their headers and are not written, so nothing may point at them.
POINTERS = ("ReferencedSeriesSequence", "SourceImageSequence")
SHARED_TEXT = (
    *("SeriesDescription", "ImageComments", "BurnedInAnnotation", "PatientPosition", "BodyPartExamined", "Laterality"),
)


def check_highdicom() -> None:
    """Nothing, where highdicom can be imported; else MissingExtraError."""
    if importlib.util.find_spec("highdicom") is None:
        raise MissingExtraError("a DICOM ParametricMap (floating)", "dicom")


def float_maps(volumes: Sequence[Volume], images: Sequence[Dataset]) -> Iterator[Dataset]:
    """One map for each volume, unscaled, all in one series; ``images`` are the volumes as classic images, in order."""
    check_highdicom()
    slices = len(volumes[0].voxels)
    for which, volume in enumerate(volumes):
        yield _map(volume, images[which * slices : (which + 1) * slices], which + 1)


def _map(volume: Volume, images: Sequence[Dataset], number: int) -> Dataset:
    import highdicom
    from pydicom.sr.codedict import codes

    head = images[0]
    low, high = float(volume.voxels.min()), float(volume.voxels.max())
    low, high = (low, high) if high > low else (low - 0.5, low + 0.5)
    meaning = highdicom.pm.RealWorldValueMapping(
        lut_label="VOXEL",
        lut_explanation="signal of the reconstruction, arbitrary units",
        unit=codes.UCUM.NoUnits,
        value_range=(low, high),
        slope=1.0,
        intercept=0.0,
    )
    window = highdicom.VOILUTTransformation((low + high) / 2, high - low, voi_lut_function="LINEAR_EXACT")
    made = highdicom.pm.ParametricMap(
        source_images=list(images),
        pixel_array=np.ascontiguousarray(volume.voxels, np.float32),
        series_instance_uid=head.SeriesInstanceUID,
        series_number=int(head.SeriesNumber),
        sop_instance_uid=generate_uid(prefix=None),
        instance_number=number,
        manufacturer=head.Manufacturer,
        manufacturer_model_name=head.ManufacturerModelName,
        software_versions=head.SoftwareVersions,
        device_serial_number="none",
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[meaning],
        voi_lut_transformations=[window],
        transfer_syntax_uid=ExplicitVRLittleEndian,
        content_label="RECONSTRUCTION",
        content_description=plain("NOT FOR CLINICAL USE nirvana-mri reconstruction", 64),
        derived_pixel_contrast="NONE",
    )
    return _finished(made, head)


def _finished(made: Dataset, head: Dataset) -> Dataset:
    """The map with the texts of the classic image, and without pointers to images that nobody has."""
    for name in POINTERS:
        if name in made:
            del made[name]
    for frame in (*made.PerFrameFunctionalGroupsSequence, *made.SharedFunctionalGroupsSequence):
        if "DerivationImageSequence" in frame:
            del frame.DerivationImageSequence
    for name in SHARED_TEXT:
        if name in head:
            made[name] = copy.deepcopy(head[name])
    made.ContributingEquipmentSequence = copy.deepcopy(head.ContributingEquipmentSequence)
    made.SpecificCharacterSet = head.SpecificCharacterSet
    made.file_meta.ImplementationVersionName = WRITER
    return made
