"""DICOM series as pictures: one idea per file, `reader.py` first."""

from nirvana_mri.io.dicom.reader import is_dicom, read_dicom, read_dicom_volumes

__all__ = ["is_dicom", "read_dicom", "read_dicom_volumes"]
