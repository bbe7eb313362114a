"""ISMRMRD files, Cartesian: one idea per file, `reader.py` first."""

from nirvana_mri.io.ismrmrd.reader import is_ismrmrd, read_ismrmrd

__all__ = ["is_ismrmrd", "read_ismrmrd"]
