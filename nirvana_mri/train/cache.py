"""Recorded k-space kept in hybrid space: a file a scan, from which a strip of rows is read without the rest."""

import json
import logging
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nirvana_mri.atomic import atomic_path
from nirvana_mri.errors import ScanError, UsageError
from nirvana_mri.io.slices import lend
from nirvana_mri.recon.hybrid import HybridSlice, hybrid_slice
from nirvana_mri.recon.problem import CALIBRATION_LINES
from nirvana_mri.scan import Scan
from nirvana_mri.train.index import Entry

FORMAT = "nirvana-hybrid/1"  # another one where hybrid_slice gives other numbers
HEAD = 4096  # bytes; the slices begin after them
SUFFIX = ".hybrid"


@dataclass(frozen=True)
class HybridCache:
    """A folder of scans in hybrid space, named by fingerprint: as private as the scans, and only its owner may read it.

    A file is made at the first use of its scan, whole or not at all, so that processes may make the same one at once.
    One that is cut short, of another version or of another scan is made anew; bits that change within are not noticed.
    """

    folder: Path

    def slice(self, scan: Scan, fingerprint: str, number: int) -> HybridSlice | None:
        """A slice as ``hybrid_slice`` gives it, mapped; None where it must be read from the scan: what was acquired is
        not by column, or the scan's slice cannot be used.
        """
        if scan.acquired.ndim != 1:
            return None
        path, layout = self.folder / f"{fingerprint}{SUFFIX}", slice_layout(scan.shape[1:], scan.crop)
        head = _head(fingerprint, scan)
        if not _is_whole(path, head, HEAD + scan.shape[0] * layout.itemsize):
            _make(path, head, layout, scan)
        found = np.memmap(path, layout, "r", HEAD + number * layout.itemsize, (1,))[0]
        if not found["usable"]:
            return None
        return HybridSlice(
            data=found["data"],
            centre=found["centre"],
            energy=found["energy"],
            peaks=found["peaks"],
            target=found["target"],
            exponent=int(found["exponent"]),
        )

    def size(self) -> tuple[int, int]:
        """(files, bytes) on disk now."""
        sizes = [path.stat().st_size for path in self.folder.glob(f"*{SUFFIX}")]
        return len(sizes), sum(sizes)

    def require_room(self, entries: Iterable[Entry]) -> None:
        """UsageError where the disk has not the room that is still needed for these scans."""
        scans = {entry.fingerprint: entry for entry in entries if entry.is_scan}
        missing = [entry for name, entry in scans.items() if not (self.folder / f"{name}{SUFFIX}").exists()]
        needed = sum(HEAD + e.shape[0] * slice_layout(_three(e), e.crop).itemsize for e in missing)
        there = next(place for place in (self.folder, *self.folder.resolve().parents) if place.exists())
        free = shutil.disk_usage(there).free
        if needed > free:
            raise UsageError(
                f"the cache of {len(missing)} scans needs {needed / 1e9:.1f} GB, {self.folder} has {free / 1e9:.1f}; "
                "choose another folder, or train without"
            )


def slice_layout(shape: tuple[int, int, int], crop: tuple[int, int]) -> np.dtype[np.void]:
    """How a slice of (coils, ny, nx) lies in the file."""
    coils, ny, nx = shape
    rows, columns = min(crop[0], ny), min(crop[1], nx)
    fields = [
        ("data", np.complex64, (coils, rows, nx)),
        ("centre", np.complex64, (coils, min(rows, CALIBRATION_LINES), min(nx, CALIBRATION_LINES))),
        ("energy", np.float32, (ny, nx)),
        ("peaks", np.float32, (nx,)),
        ("target", np.float32, (rows, columns)),
        ("exponent", np.int32),
        ("usable", np.int32),
    ]
    return np.dtype(fields, align=True)


def _three(entry: Entry) -> tuple[int, int, int]:
    _, coils, ny, nx = entry.shape
    return coils, ny, nx


def _head(fingerprint: str, scan: Scan) -> bytes:
    """What the file must begin with, to the byte."""
    lines = CALIBRATION_LINES
    facts = {"format": FORMAT, "fingerprint": fingerprint, "shape": scan.shape, "crop": scan.crop, "lines": lines}
    return json.dumps(facts).encode().ljust(HEAD - 1) + b"\n"


def _is_whole(path: Path, head: bytes, size: int) -> bool:
    if not path.exists():
        return False
    with path.open("rb") as file:
        whole = os.fstat(file.fileno()).st_size == size and file.read(HEAD) == head
    if not whole:
        logging.getLogger(__name__).warning("%s: cut short, or of another version; made anew", path)
    return whole


def _make(path: Path, head: bytes, layout: np.dtype[np.void], scan: Scan) -> None:
    with atomic_path(path) as temporary:
        temporary.touch(mode=0o600)
        with temporary.open("r+b") as file:
            file.write(head)
            for number in range(scan.shape[0]):
                file.write(_record(layout, scan, number).tobytes())
            file.flush()
            os.fsync(file.fileno())  # or a power cut may leave the right size and no bytes


def _record(layout: np.dtype[np.void], scan: Scan, number: int) -> np.ndarray:
    record = np.zeros(1, layout)
    try:
        found = hybrid_slice(lend(scan.kspace, number), scan.acquired, scan.crop)
    except ScanError:
        return record  # whoever draws it reads the scan, and is told what is wrong
    for name in ("data", "centre", "energy", "peaks", "target", "exponent"):
        record[name] = getattr(found, name)
    record["usable"] = 1
    return record
