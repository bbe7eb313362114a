"""Which scan goes where, how it is opened and written, and whether it was done before."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.io.hdf5 import SafeFile
from nirvana_mri.io.open import KINDS
from nirvana_mri.io.save import FORMATS, SUFFIXES, check_output, output_format
from nirvana_mri.recon.open import acquire, open_scan
from nirvana_mri.scan import Scan

SUFFIX = {"h5": ".h5", "nifti": ".nii.gz", "png": ".png", "dicom": ".dcm"}
STEMS = (*SUFFIXES, *FORMATS["nifti"], ".cfl", ".hdr")  # what a name loses; with other dots it stays as it is
PIECE = 1 << 20


@dataclass(frozen=True)
class Reading:
    """What more is said of the input than it says itself; the fields are options of :func:`open_scan`."""

    volume: int | None = None
    encoding: int | None = None
    calibration: bool = False
    axes: str | None = None
    dataset: str | None = None
    images: bool = False

    @property
    def given(self) -> dict[str, Any]:
        """The options that are not at their default."""
        return {name: value for name, value in asdict(self).items() if value is not None and value is not False}

    def open(self, path: Path) -> tuple[Scan, Iterator[Scan]]:
        """The scan that is meant, or the first of several volumes; and all of them, opened one at a time."""
        first = open_scan(path, **self.given)
        if self.volume is not None or first.volumes == 1:
            return first, iter([first])
        return first, self._every(path, first)

    def _every(self, path: Path, first: Scan) -> Iterator[Scan]:
        if first.file_format == "DICOM":  # the headers of a long series are read once
            from nirvana_mri.io.dicom.reader import read_dicom_volumes

            yield from (acquire(picture) for picture in read_dicom_volumes(path))
            return
        yield first
        for number in range(1, first.volumes):
            yield open_scan(path, **self.given | {"volume": number})


@dataclass(frozen=True)
class Writing:
    """How reconstructions are written; the fields are options of :func:`save`."""

    format: str | None = None
    reference_dicom: Path | None = None
    assume_orientation: str | None = None
    floating: bool = False
    keep_identifiers: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """The fields by name."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True)
class Job:
    """One scan and where its reconstruction goes."""

    scan: Path
    out: Path


def plan(scans: Sequence[Path], out: Path, writing: Writing | None = None) -> list[Job]:
    """Which scan goes where. A folder that holds DICOM is one series, another stands for the scans in it.

    One scan goes to ``out`` where that has a suffix (a folder ``NAME.dcm`` for DICOM) and is no other folder; else
    every scan goes into the folder ``out``, under its own name, as fastMRI pairs them. Raises: UsageError where two
    would have one name, output would replace input, or cannot be written so.
    """
    writing = writing or Writing()
    found = [path for given in scans for path in scans_in(given)]
    named = next((kind for kind, suffixes in FORMATS.items() if out.name.lower().endswith(suffixes)), None)
    occupied = out.is_dir() and named != "dicom"
    if len(scans) == 1 and found == list(scans) and out.suffix and not occupied:
        check_output(out, **writing.options)
        jobs = [Job(found[0], out)]
    elif out.is_file() or (named and not occupied):
        raise UsageError(f"{out} names a file, and {len(found)} scans go into a folder; name one")
    else:
        jobs = [Job(path, out / _name(path, writing.format or "h5")) for path in found]
    _refuse_collisions(jobs)
    return jobs


def is_done(job: Job, request: dict[str, Any], sources: Sequence[Path]) -> bool:
    """True where the output is there, whole, answers this request, and is newer than the scan and other ``sources``.

    That is told of HDF5 and NIfTI; DICOM series and PNG do not say what they answer, and are made again.
    """
    if not job.out.is_file() or not job.scan.exists():
        return False
    made = job.out.stat().st_mtime_ns
    if any(path.stat().st_mtime_ns > made for path in (*_files_of(job.scan), *sources) if path.exists()):
        return False
    kind = output_format(job.out)
    try:
        stored = _of_h5(job.out) if kind == "h5" else _of_nifti(job.out) if kind == "nifti" else {}
    except (DataError, OSError, EOFError, zlib.error, ValueError, LookupError, TypeError, RecursionError):
        return False  # not one of ours, or damaged: made again
    return isinstance(stored, dict) and stored.get("request") == request


def _of_h5(path: Path) -> Any:
    with SafeFile(path, DataError) as file:
        return json.loads(file.attribute("provenance", "O") or "{}")


def _of_nifti(path: Path) -> Any:
    """The provenance in the sidecar, where that belongs to the picture."""
    from nirvana_mri.io.writers.nifti import sidecar_path

    said = json.loads(sidecar_path(path).read_bytes())
    digest = hashlib.sha256()
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    if said["image_sha256"] != digest.hexdigest():
        return {}
    return said["volumes"][0] if "volumes" in said else said


def scans_in(given: Path) -> list[Path]:
    """The scans that a path stands for: itself, or the files in a folder that a reader knows or should know."""
    whole = any(kind.name == "Bruker" and kind.holds(given) for kind in KINDS)  # a folder that is one scan
    if not given.is_dir() or whole:
        return [given]
    files = sorted(path for path in given.iterdir() if path.is_file())
    found = []
    for path in files:
        kind = _kind(path)
        if kind == "DICOM":
            return [given]
        second = path.suffix.lower() == ".hdr" and path.with_suffix(".cfl") in files  # of a BART pair
        found += [path] if kind is not None and not second else []
    if found:
        return found
    if any(kind.name == "DICOM" and kind.holds(given) for kind in KINDS):  # in folders below
        return [given]
    known = ", ".join(kind.name for kind in KINDS)
    raise UsageError(f"{given}: no scan in this folder, expected files of {known}")


def _kind(path: Path) -> str | None:
    """What a file is; a damaged scan, which keeps its suffix, counts, so that it is named and not passed over."""
    held = next((kind.name for kind in KINDS if kind.holds(path)), None)
    return held or ("HDF5" if path.suffix.lower() in SUFFIXES else None)


def _name(scan: Path, kind: str) -> str:
    if kind == "h5" and scan.suffix in SUFFIXES:
        return scan.name
    name = scan.resolve().name if scan.is_dir() else scan.name
    stem = next((name[: -len(suffix)] for suffix in STEMS if name.lower().endswith(suffix)), None)
    return (stem or (name if scan.is_dir() else Path(name).stem)) + SUFFIX[kind]


def _refuse_collisions(jobs: Sequence[Job]) -> None:
    scans = {job.scan.resolve(): job.scan for job in jobs}
    taken: dict[Path, Path] = {}
    for job in jobs:
        if job.out in taken:
            raise UsageError(f"{taken[job.out]} and {job.scan} would both become {job.out}; run them apart")
        taken[job.out] = job.scan
        place = job.out.resolve()
        if place in scans:
            raise UsageError(f"{job.out} would replace the scan {scans[place]}; choose another place")
        around = next((scans[folder] for folder in place.parents if folder in scans), None)
        if around is not None and around.is_dir():
            raise UsageError(f"{job.out} would lie among the files of the series {around}; choose another place")


def _files_of(scan: Path) -> Iterator[Path]:
    """The scan's file, or files: those of a folder, or both of a pair."""
    if scan.is_dir():
        yield from (path for path in scan.rglob("*") if path.is_file())
        return
    yield scan
    yield from (path for suffix in (".cfl", ".hdr") if (path := scan.with_suffix(suffix)) != scan)
