"""Arrays without a header (npy, npz, mat): one idea per file, `reader.py` first."""

from nirvana_mri.io.arrays.reader import is_array, read_array

__all__ = ["is_array", "read_array"]
