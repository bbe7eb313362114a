"""The DICOM elements that are read here, by their names in PS3.6: an allow-list; every other one is stepped over."""

from __future__ import annotations

# Wherever they stand. Sequences that are not named are not entered.
WANTED = {
    0x00020010: ("TransferSyntaxUID", "UI"),
    0x00080008: ("ImageType", "CS"),
    0x00080016: ("SOPClassUID", "UI"),
    0x00080018: ("SOPInstanceUID", "UI"),  # to tell instances apart, never shown
    0x00080060: ("Modality", "CS"),
    0x00080070: ("Manufacturer", "LO"),  # reduced to a code
    0x00089007: ("FrameType", "CS"),
    0x00089208: ("ComplexImageComponent", "CS"),
    0x00180015: ("BodyPartExamined", "CS"),
    0x00180020: ("ScanningSequence", "CS"),
    0x00180023: ("MRAcquisitionType", "CS"),
    0x00180050: ("SliceThickness", "DS"),
    0x00180080: ("RepetitionTime", "DS"),
    0x00180081: ("EchoTime", "DS"),
    0x00180082: ("InversionTime", "DS"),
    0x00180086: ("EchoNumbers", "IS"),
    0x00180087: ("MagneticFieldStrength", "DS"),
    0x00180088: ("SpacingBetweenSlices", "DS"),
    0x00181060: ("TriggerTime", "DS"),
    0x00181314: ("FlipAngle", "DS"),
    0x00189008: ("EchoPulseSequence", "CS"),
    0x00189009: ("InversionRecovery", "CS"),
    0x00189018: ("EchoPlanarPulseSequence", "CS"),
    0x00189075: ("DiffusionDirectionality", "CS"),
    0x00189079: ("InversionTimes", "FD"),
    0x00189082: ("EffectiveEchoTime", "FD"),
    0x00189087: ("DiffusionBValue", "FD"),
    0x00189089: ("DiffusionGradientOrientation", "FD"),
    0x0020000E: ("SeriesInstanceUID", "UI"),  # to tell series apart, never shown
    0x00200011: ("SeriesNumber", "IS"),
    0x00200012: ("AcquisitionNumber", "IS"),
    0x00200013: ("InstanceNumber", "IS"),
    0x00200032: ("ImagePositionPatient", "DS"),
    0x00200037: ("ImageOrientationPatient", "DS"),
    0x00200100: ("TemporalPositionIdentifier", "IS"),
    0x00209128: ("TemporalPositionIndex", "UL"),
    0x00209157: ("DimensionIndexValues", "UL"),
    0x00280002: ("SamplesPerPixel", "US"),
    0x00280004: ("PhotometricInterpretation", "CS"),
    0x00280008: ("NumberOfFrames", "IS"),
    0x00280010: ("Rows", "US"),
    0x00280011: ("Columns", "US"),
    0x00280030: ("PixelSpacing", "DS"),
    0x00280100: ("BitsAllocated", "US"),
    0x00280101: ("BitsStored", "US"),
    0x00280102: ("HighBit", "US"),
    0x00280103: ("PixelRepresentation", "US"),
    0x00281052: ("RescaleIntercept", "DS"),
    0x00281053: ("RescaleSlope", "DS"),
    0x00282110: ("LossyImageCompression", "CS"),
    # Private, numbers only; the creators in the same group are checked before use.
    0x00190010: ("SiemensHeaderCreator", "LO"),
    0x0019100A: ("SiemensImagesInMosaic", "US"),
    0x0019100C: ("SiemensBValue", "IS"),
    0x00290010: ("SiemensCsaCreator", "LO"),
    0x00291010: ("SiemensCsa", "OB"),
    0x00430010: ("GeParameterCreator", "LO"),
    0x0043102F: ("GeImageKind", "SS"),
    0x00431039: ("GeBValue", "IS"),
    # Sequences that are entered.
    0x00189114: ("MREchoSequence", "SQ"),
    0x00189112: ("MRTimingAndRelatedParametersSequence", "SQ"),
    0x00189115: ("MRModifierSequence", "SQ"),
    0x00189117: ("MRDiffusionSequence", "SQ"),
    0x00189076: ("DiffusionGradientDirectionSequence", "SQ"),
    0x00189226: ("MRImageFrameTypeSequence", "SQ"),
    0x00209111: ("FrameContentSequence", "SQ"),
    0x00209113: ("PlanePositionSequence", "SQ"),
    0x00209116: ("PlaneOrientationSequence", "SQ"),
    0x00283000: ("ModalityLUTSequence", "SQ"),  # refused
    0x00289110: ("PixelMeasuresSequence", "SQ"),
    0x00289145: ("PixelValueTransformationSequence", "SQ"),
    0x52009229: ("SharedFunctionalGroupsSequence", "SQ"),
    0x52009230: ("PerFrameFunctionalGroupsSequence", "SQ"),
}
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
# Recognised, but not read: the whole file is packed, or its bytes are swapped.
UNREAD = {
    "1.2.840.10008.1.2.1.99": "Deflated Explicit VR Little Endian",
    "1.2.840.10008.1.2.2": "Explicit VR Big Endian",
    "1.2.840.113619.5.2": "GE private big endian",
}
