"""What may be repeated of a file's own words: people call arrays after patients, so only words of the trade are."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

LONGEST, MOST_DIGITS = 40, 3
# fmt: off
WORDS = (
    "acquired", "acquisition", "acs", "arr", "array", "attrs", "brain", "calib", "calibration", "channels", "coil",
    "coils", "complex", "cpp", "csm", "data", "dataset", "dcf", "echo", "echoes", "esc", "fid", "filled", "first",
    "frames", "full", "fully", "group", "head", "header", "imag", "image", "images", "img", "input", "ismrmrd", "kdata",
    "knee", "ksp", "kspace", "label", "lines", "magnitude", "map", "maps", "mask", "masks", "noise", "numbers",
    "output", "pattern", "phantom", "phase", "picture", "pictures", "prescan", "raw", "readout", "real", "recon",
    "reconstruction", "records", "ref", "reference", "repetition", "rss", "sampled", "samples", "sampling", "scan",
    "second", "sens", "sensitivities", "sensitivity", "series", "set", "slice", "slices", "smaps", "space", "target",
    "test", "time", "traj", "trajectory", "undersampled", "values", "volume", "volumes", "weights", "xml", "zero",
)
# fmt: on
_PIECE = re.compile(f"(?:{'|'.join(sorted(WORDS, key=len, reverse=True))})+|us|te|tr|gt|[a-z]")


def is_plain(name: str) -> bool:
    """True for a name made of words of the trade, single letters and short numbers."""
    if len(name) > LONGEST or not re.fullmatch(r"[A-Za-z0-9_. -]+", name, re.ASCII):
        return False
    if sum(map(str.isdigit, name)) > MOST_DIGITS:
        return False
    return all(_PIECE.fullmatch(piece) for piece in re.split(r"[0-9_. -]+", name.lower()) if piece)


def numbered(names: Sequence[str]) -> dict[str, str]:
    """How each name is said: as it is where it is plain, else "#3" for the third in the order of names."""
    return {name: name if is_plain(name) else f"#{number}" for number, name in enumerate(sorted(names), 1)}


def type_words(dtype: np.dtype[np.generic]) -> str:
    """A type in words, without the names of its fields."""
    return str(dtype) if dtype.names is None and dtype.subdtype is None else "records"
