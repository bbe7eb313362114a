"""Siemens raw data: one idea per file, `reader.py` first."""

from nirvana_mri.io.twix.reader import is_twix, read_twix

__all__ = ["is_twix", "read_twix"]
