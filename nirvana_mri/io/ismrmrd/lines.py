"""The readouts ("acquisitions") of an ISMRMRD file: their headers in one table, and what each of them is for.

Layout: ismrmrd.github.io, ``ISMRMRD_AcquisitionHeader``; flags are numbered from 1 there.
"""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from nirvana_mri.io.hdf5 import HDF5_ERRORS, SafeFile
from nirvana_mri.io.heap import LIST, RawError
from nirvana_mri.io.ismrmrd.raw import disk_type, records

MOST_LINES = 1 << 21

NOISE = 1 << 18
CALIBRATION = 1 << 19
CALIBRATION_AND_IMAGING = 1 << 20
REVERSED = 1 << 21
# Navigator, phase correction, feedback, dummy, surface coils, phase stabilisation: never part of a picture.
NO_PICTURE = {22: "navigator", 23: "phase-correction", 25: "feedback", 26: "dummy", 27: "feedback"}
NO_PICTURE |= {28: "surface-coil", 29: "phase-stabilisation", 30: "phase-stabilisation"}
PACKED = 0b1111 << 52

COUNTERS = ("step1", "step2", "average", "slice", "contrast", "phase", "repetition", "set", "segment")
_PLACES = ("position", "read_dir", "phase_dir", "slice_dir")
_HEAD = {
    "flags": "flags",
    "samples": "number_of_samples",
    "channels": "active_channels",
    "pre": "discard_pre",
    "post": "discard_post",
    "center": "center_sample",
    "encoding": "encoding_space_ref",
    "dwell": "sample_time_us",
} | {name: name for name in _PLACES}
_KINDS = {"flags": "u8", "dwell": "f4"} | dict.fromkeys(_PLACES, "f4")
LINE = np.dtype(
    [(name, _KINDS.get(name, "i4"), (3,) if name in _PLACES else ()) for name in _HEAD]
    + [(name, "i4") for name in COUNTERS]
    + [("length", "i8"), ("address", "u8"), ("object", "i8"), ("number", "i8")]
)


def read_lines(file: SafeFile, name: str) -> tuple[NDArray[Any], np.dtype[Any]]:
    """Every readout of dataset ``name`` as a record of LINE, and the type of its numbers; no samples are read.

    Raises: ScanError where the table is not ISMRMRD's, or claims what the file does not hold.
    """
    table, said = file.dataset(name), file.said(name)
    with file.reading(said):
        count, parts = int(table.shape[0]) if table.ndim == 1 else 0, table.dtype.names or ()
        if not {"head", "data"} <= set(parts):
            raise file.fail(f"{said} is {table.dtype.kind} {table.shape}, expected ISMRMRD's records of head and data")
        numbers = np.dtype(h5py.check_vlen_dtype(table.dtype["data"]) or "V1")
    if not 0 < count <= MOST_LINES:
        raise file.fail(f"{said} holds {count} readouts, expected 1 to {MOST_LINES}; export the scan again")
    if numbers.kind != "f" or numbers.itemsize not in (4, 8):
        raise file.fail(f"{said} holds samples of type {numbers}, expected float32; export the scan again")
    try:
        kind = disk_type(table)
        _check_head(kind)
        lines = np.zeros(count, LINE)
        for first, several in records(file, table, kind):
            _fill(lines[first : first + len(several)], several)
    except RawError as problem:
        raise file.fail(f"{said} {problem}") from None
    except HDF5_ERRORS as problem:
        raise file.fail(f"{said} cannot be read ({type(problem).__name__}); copy the file again") from None
    lines["number"] = np.arange(count)
    claimed = int(lines["length"].sum()) * numbers.itemsize
    if claimed > file.bytes_present:
        raise file.fail(
            f"{said} claims {claimed} bytes of samples in a file of {file.bytes_present}: truncated; copy it again"
        )
    return lines, numbers


def _check_head(kind: np.dtype[Any]) -> None:
    """Nothing, where the heads have every wanted field, of the right kind. Raises: RawError."""
    head = kind["head"]
    if "idx" not in (head.names or ()) or kind["data"] != LIST:
        raise RawError("has no idx in its heads: not ISMRMRD 1.x; convert it with ismrmrd-tools")
    wanted = [(head, theirs, name) for name, theirs in _HEAD.items()]
    wanted += [(head["idx"], _counter(name), name) for name in COUNTERS]
    for part, theirs, name in wanted:
        found = part[theirs] if theirs in (part.names or ()) else np.dtype("V1")
        expected = LINE[name]
        is_alike = found.base.kind == "f" if expected.base.kind == "f" else found.base.kind in "iu"
        if found.shape != expected.shape or not is_alike or found.base.itemsize > expected.base.itemsize:
            raise RawError(f"has no usable {theirs} in its heads: not ISMRMRD 1.x; convert it with ismrmrd-tools")


def _counter(name: str) -> str:
    return name.replace("step", "kspace_encode_step_")


def _fill(lines: NDArray[Any], raw: NDArray[Any]) -> None:
    for name, theirs in _HEAD.items():
        lines[name] = raw["head"][theirs]
    for name in COUNTERS:
        lines[name] = raw["head"]["idx"][_counter(name)]
    lines["length"], lines["address"], lines["object"] = (raw["data"][field] for field in LIST.names or ())


def has(lines: NDArray[Any], flags: int) -> NDArray[np.bool_]:
    """bool ``[line]``, True where any of ``flags`` is set."""
    return np.asarray((lines["flags"] & np.uint64(flags)) != 0)


def left_out(lines: NDArray[Any]) -> tuple[NDArray[np.bool_], list[str]]:
    """bool ``[line]``, True for lines of no picture (noise not among them), and a note of what they are."""
    out = np.zeros(len(lines), bool)
    counts: dict[str, int] = {}
    for bit, what in NO_PICTURE.items():
        found = has(lines, 1 << bit) & ~out & ~has(lines, NOISE)
        if found.any():
            counts[what] = counts.get(what, 0) + int(found.sum())
        out |= found
    notes = [f"left out: {', '.join(f'{n} {what} lines' for what, n in counts.items())}"] if counts else []
    return out, notes
