"""Many scans, one after the other, into files: what is done is not done again, and one bad scan stops no other."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nirvana_mri import __version__
from nirvana_mri.atomic import check_target
from nirvana_mri.errors import DataError, NirvanaError, UsageError
from nirvana_mri.io.hdf5 import SafeFile
from nirvana_mri.io.save import SUFFIXES, save
from nirvana_mri.physics.masks import MASKS
from nirvana_mri.recon.open import open_scan
from nirvana_mri.recon.pipeline import reconstruct
from nirvana_mri.scan import Scan
from nirvana_mri.volume import Volume

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Recipe:
    """What is asked for, alike for every scan; the fields are those of :func:`reconstruct`.

    ``slices`` is (start, stop), stop exclusive, None for an open end; ``model`` a name or a path.
    """

    method: str = "nirvana"
    model: str = "nano"
    accelerate: float | None = None
    mask: str = "equispaced_fraction"
    center_fraction: float = 0.08
    seed: int = 0
    slices: tuple[int | None, int | None] | None = None
    combine: str = "rss"
    keep_phase: bool = False
    device: str = "cpu"

    def apply(self, scan: Scan, progress: Progress | None = None) -> Volume:
        """The reconstruction of one scan."""
        settings = {**asdict(self), "slices": pick_slices(self.slices, len(scan.kspace), scan.name)}
        return reconstruct(scan, **settings, progress=progress)

    def request(self, model_sha256: str | None) -> dict[str, Any]:
        """What decides the output's voxels, JSON-ready: equal requests of one scan need no second run."""
        asked = asdict(self)
        del asked["device"]
        own_mask = self.mask not in MASKS
        if own_mask:
            asked["mask"] = mask_file(self.mask).name
        elif self.accelerate is None:
            del asked["mask"], asked["center_fraction"], asked["seed"]
        slices = None if self.slices is None else list(self.slices)
        asked.update(slices=slices, model=model_sha256, toolkit_version=__version__)
        return asked


@dataclass(frozen=True)
class Job:
    """One scan and where its reconstruction goes."""

    scan: Path
    out: Path


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of a job: a volume without its voxels, an error, or nothing because it had been done before."""

    job: Job
    seconds: float = 0.0
    volume: Volume | None = None
    error: NirvanaError | OSError | None = None

    @property
    def skipped(self) -> bool:
        return self.volume is None and self.error is None


def plan(scans: Sequence[Path], out: Path) -> list[Job]:
    """Which scan goes where. Folders stand for the HDF5 files in them.

    One scan goes to ``out`` where that has a suffix and is no folder; else every scan goes into the folder ``out``,
    under its own name, as fastMRI pairs them. Raises: UsageError where two would have one name, or output would
    replace input.
    """
    found = [path for given in scans for path in _files(given)]
    to_file = len(found) == 1 and not scans[0].is_dir() and not out.is_dir() and out.suffix
    if to_file:
        if out.suffix.lower() not in SUFFIXES:
            raise UsageError(f"{out}: cannot write {out.suffix}; supported: {', '.join(SUFFIXES)}, or a folder")
        check_target(out)
        jobs = [Job(found[0], out)]
    else:
        if out.is_file() or (out.suffix.lower() in SUFFIXES and not out.is_dir()):
            raise UsageError(f"{out} names a file, and {len(found)} scans go into a folder; name one")
        jobs = [Job(path, out / (path.name if path.suffix in SUFFIXES else f"{path.stem}.h5")) for path in found]
    _refuse_collisions(jobs)
    return jobs


def run(jobs: Sequence[Job], recipe: Recipe, *, redo: bool, progress: Progress | None = None) -> Iterator[Outcome]:
    """Do the jobs in turn, each outcome as it comes; only one scan is in memory at a time.

    Without ``redo`` a job is skipped whose output answers the same request and is newer than all that it was made from.
    """
    sha256 = _model_sha256(recipe)
    request = recipe.request(sha256)
    for job in jobs:
        try:
            if not redo and _is_done(job, request, recipe):
                yield Outcome(job)
                continue
            began = time.monotonic()
            volume = recipe.apply(open_scan(job.scan), progress)
            job.out.parent.mkdir(parents=True, exist_ok=True)
            save(replace(volume, provenance={**volume.provenance, "request": request}), job.out)
            yield Outcome(job, time.monotonic() - began, _without_voxels(volume))
        except (NirvanaError, OSError) as error:
            yield Outcome(job, error=_about(job, error))


def _about(job: Job, error: NirvanaError | OSError) -> NirvanaError | OSError:
    """The error, which names the scan."""
    if isinstance(error, OSError) or str(job.scan) in str(error):
        return error
    return type(error)(f"{job.scan}: {error}").with_traceback(error.__traceback__)


def _without_voxels(volume: Volume) -> Volume:
    """All that a volume says, its shape included, in no memory: a list of outcomes may be long."""
    nothing = np.zeros((), volume.voxels.dtype)
    return replace(volume, voxels=np.broadcast_to(nothing, volume.voxels.shape))


def pick_slices(wanted: tuple[int | None, int | None] | None, count: int, what: str) -> range | None:
    """(start, stop) as slice numbers of ``what``, which has ``count``. Raises: UsageError with the valid range."""
    if wanted is None:
        return None
    start, stop = wanted
    first, last = start or 0, count if stop is None else stop
    if not 0 <= first < last <= count:
        shown = f"{'' if start is None else start}:{'' if stop is None else stop}"
        raise UsageError(f"slices {shown} are not in {what}, which has slices 0:{count} (the stop excluded)")
    return range(first, last)


def mask_file(mask: str) -> Path:
    """The file that ``mask`` names, which may say FILE.h5:DATASET."""
    return Path(mask) if Path(mask).exists() else Path(mask.rsplit(":", 1)[0])


def _files(given: Path) -> list[Path]:
    if not given.is_dir():
        return [given]
    found = sorted(path for path in given.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise UsageError(f"{given}: no scan in this folder, expected files {' or '.join(SUFFIXES)}")
    return found


def _refuse_collisions(jobs: Sequence[Job]) -> None:
    scans = {job.scan.resolve(): job.scan for job in jobs}
    taken: dict[Path, Path] = {}
    for job in jobs:
        if job.out in taken:
            raise UsageError(f"{taken[job.out]} and {job.scan} would both become {job.out}; run them apart")
        taken[job.out] = job.scan
        if job.out.resolve() in scans:
            raise UsageError(f"{job.out} would replace the scan {scans[job.out.resolve()]}; choose another place")


def _is_done(job: Job, request: dict[str, Any], recipe: Recipe) -> bool:
    """True where the output is there, answers this request, and is newer than the scan and the mask file."""
    if not job.out.is_file() or not job.scan.is_file():
        return False
    sources = [job.scan] if recipe.mask in MASKS else [job.scan, mask_file(recipe.mask)]
    if any(path.stat().st_mtime_ns > job.out.stat().st_mtime_ns for path in sources if path.exists()):
        return False
    try:
        with SafeFile(job.out, DataError) as file:
            stored = json.loads(file.attribute("provenance", "O") or "{}")
    except (DataError, ValueError):
        return False  # not one of ours, or damaged: made again
    return isinstance(stored, dict) and stored.get("request") == request


def _model_sha256(recipe: Recipe) -> str | None:
    if recipe.method != "nirvana":
        return None
    from nirvana_mri.recon.checkpoint import load_model

    return load_model(recipe.model, recipe.device).sha256
