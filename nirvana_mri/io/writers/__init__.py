"""Reconstructions into files: h5, NIfTI, DICOM, PNG; and back where they are scored."""
