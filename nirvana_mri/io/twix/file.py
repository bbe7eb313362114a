"""The frame of a Siemens raw data file: its measurements, their headers, and where each readout line lies.

twixtools says what the bytes of a line's header mean; the walk from line to line is our own, since every length in a
damaged file may be wrong. Two layouts: VB has one measurement and a header before each channel, VD and VE a directory
of measurements and one header for all channels of a line.
"""

from __future__ import annotations

import mmap
import re
import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.errors import MissingExtraError, ScanError

LARGEST_HEADER = 64 << 20
MOST_MEASUREMENTS = 64
DIRECTORY = 8 + MOST_MEASUREMENTS * 152
DMA_LENGTH = (1 << 25) - 1
FIRST_PART = re.compile(rb"[A-Za-z]{4,32}\x00")  # the name of the header's first part: Config, Dicom, Meas ...


@dataclass(frozen=True, eq=False)
class Measurement:
    """One measurement: its text header, and a row for each readout line in order.

    ``lines`` has the fields of twixtools' line header, ``data_at`` is where the samples of the first channel begin, and
    ``channel_step`` how many bytes lie from one channel's to the next's, for each line.
    """

    header: bytes
    lines: NDArray[Any]
    data_at: NDArray[np.int64]
    channel_step: NDArray[np.int64]
    complete: bool


def is_twix(path: str | Path) -> bool:
    """True for a Siemens raw data file, by its directory or first header. Never raises, needs no twixtools."""
    try:
        path = Path(path)
        if not path.is_file():
            return False
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            start = file.read(24)
            if len(start) < 24:
                return False
            offset = struct.unpack("<Q", start[16:24])[0] if _has_directory(start) else 0
            if offset + 48 > size:
                return False
            file.seek(offset)
            length, parts = struct.unpack("<II", file.read(8))
            return length > 16 and 0 < parts < 64 and FIRST_PART.match(file.read(40)) is not None
    except (OSError, ValueError, struct.error):
        return False


def read_measurements(path: Path) -> list[Measurement]:
    """Every measurement of a file, in order.

    Raises: MissingExtraError without twixtools; ScanError for a file whose lengths contradict each other or its size.
    """
    mdh = load_twixtools()
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return [_measurement(path, data, begin, end, mdh) for begin, end in _spans(path, data)]
    except (OSError, ValueError) as problem:
        raise ScanError(f"{path}: cannot be read ({problem}); check the path") from problem


def load_twixtools() -> ModuleType:
    """twixtools' description of the line headers, loaded late since that takes half a second."""
    try:
        from twixtools import mdh_def
    except ImportError as problem:
        raise MissingExtraError("reading Siemens raw data", "twix") from problem
    found: ModuleType = mdh_def
    return found


def has_flag(lines: NDArray[Any], mdh: ModuleType, *names: str) -> NDArray[np.bool_]:
    """True for the lines that carry any of the flags."""
    mask = sum(1 << mdh.mask_dict[name] for name in names)
    return np.asarray(lines["EvalInfoMask"] & np.uint64(mask), bool)


def _has_directory(start: bytes | mmap.mmap) -> bool:
    first, count = struct.unpack("<II", start[:8])
    return bool(first < 10000 and 1 <= count <= MOST_MEASUREMENTS)


def _spans(path: Path, data: mmap.mmap) -> list[tuple[int, int]]:
    """Begin and end of each measurement."""
    if len(data) < 48:
        raise ScanError(f"{path}: {len(data)} bytes are no Siemens raw data; copy it again from its source")
    if not _has_directory(data):
        return [(0, len(data))]
    if len(data) < DIRECTORY:
        raise ScanError(f"{path}: ends within its directory of measurements; copy it again from its source")
    count = struct.unpack_from("<I", data, 4)[0]
    spans = []
    for number in range(count):
        begin, length = struct.unpack_from("<QQ", data, 8 + 152 * number + 8)
        if length == 0 and count == 1:  # some exports leave it open
            length = max(len(data) - begin, 0)
        if begin < DIRECTORY or begin + length > len(data):
            raise ScanError(
                f"{path}: measurement {number} lies at bytes {begin} to {begin + length} of {len(data)}: the file is "
                "truncated; copy it again from its source"
            )
        if length:
            spans.append((begin, begin + length))
    if any(a[1] > b[0] for a, b in pairwise(sorted(spans))):
        raise ScanError(f"{path}: measurements overlap; copy it again from its source")
    return spans


def _measurement(path: Path, data: mmap.mmap, begin: int, end: int, mdh: ModuleType) -> Measurement:
    if end - begin < 48:
        raise ScanError(f"{path}: a measurement of {end - begin} bytes is none; copy it again from its source")
    length = struct.unpack_from("<I", data, begin)[0]
    if not 16 < length <= min(LARGEST_HEADER, end - begin):
        raise ScanError(f"{path}: a header of {length} bytes in {end - begin}: damaged; copy it again from its source")
    header = data[begin : begin + length]
    per_line = _has_directory(data)
    layout = mdh.Scan_header if per_line else mdh.VB17_header
    before = np.dtype(layout).itemsize
    between = np.dtype(mdh.Channel_header).itemsize if per_line else before
    starts, complete = _walk(path, data, (begin + length, end), layout, (before if per_line else 0, between))
    raw = b"".join(data[at : at + before] for at in starts)
    lines = np.frombuffer(raw, np.dtype(layout))
    data_at = np.asarray(starts, np.int64) + between + (before if per_line else 0)
    step = between + 8 * lines["SamplesInScan"].astype(np.int64)
    return Measurement(header, lines, data_at, step, complete)


def _walk(
    path: Path, data: mmap.mmap, span: tuple[int, int], layout: Any, sizes: tuple[int, int]
) -> tuple[list[int], bool]:
    """Where each line with samples begins, and whether the end marker was found."""
    at, end = span
    once, per_channel = sizes
    smallest = np.dtype(layout).itemsize
    flags_at, samples_at = layout.EvalInfoMask.offset, layout.SamplesInScan.offset
    assert layout.UsedChannels.offset == samples_at + 2
    starts: list[int] = []
    while at + smallest <= end:
        flags = struct.unpack_from("<Q", data, at + flags_at)[0]
        if flags & 1:  # ACQEND
            return starts, True
        samples, channels = struct.unpack_from("<HH", data, at + samples_at)
        is_sync = flags & 32  # physiological and other data of their own layout
        length = struct.unpack_from("<I", data, at)[0] & DMA_LENGTH if is_sync else 0
        length = length or once + channels * (per_channel + 8 * samples)
        if length < smallest or at + length > end:
            raise ScanError(
                f"{path}: the readout line at byte {at} claims {length} bytes of {end - at}: truncated or damaged; "
                "copy it again from its source"
            )
        if not is_sync and samples and channels:
            starts.append(at)
        at += length
    return starts, False
