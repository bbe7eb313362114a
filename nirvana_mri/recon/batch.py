"""Many scans, one after the other, into files: what is done is not done again, and one bad scan stops no other."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from nirvana_mri import __version__
from nirvana_mri.errors import NirvanaError, UsageError
from nirvana_mri.io.save import check_output, output_format, save
from nirvana_mri.physics.masks import MASKS
from nirvana_mri.recon.errorbars import SHIPPED
from nirvana_mri.recon.jobs import Job, Reading, Writing, is_done
from nirvana_mri.recon.peers import PEERS, load_peer
from nirvana_mri.recon.pipeline import reconstruct, reconstruct_slices, weights_file
from nirvana_mri.recon.stream import nothing, spooled
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
    prewhiten: bool = True
    adapt: int = 0
    strength: float = 1.0
    trust: bool = False
    error_bars: str | None = None
    device: str = "cpu"

    def apply(self, scan: Scan, progress: Progress | None = None) -> Volume:
        """The reconstruction of one scan."""
        return reconstruct(scan, **self._settings(scan), progress=progress, adapting=progress)

    def start(self, scan: Scan, adapting: Progress | None = None) -> tuple[Volume, Generator[NDArray[Any]]]:
        """The reconstruction of one scan, slice by slice, as :func:`reconstruct_slices` gives it."""
        return reconstruct_slices(scan, **self._settings(scan), adapting=adapting)

    def _settings(self, scan: Scan) -> dict[str, Any]:
        return {**asdict(self), "slices": pick_slices(self.slices, len(scan.kspace), scan.name)}

    def request(self, model_sha256: str | None) -> dict[str, Any]:
        """What decides the output's voxels, JSON-ready: equal requests of one scan need no second run."""
        asked = asdict(self)
        del asked["device"]
        for name in ("adapt", "strength", "trust", "error_bars"):
            if asked[name] == getattr(Recipe, name):  # outputs of older requests stay what they are
                del asked[name]
        if self.error_bars is not None:
            asked["error_bars"] = Path(self.error_bars).name
        own_mask = self.mask not in MASKS
        if own_mask:
            asked["mask"] = mask_file(self.mask).name
        elif self.accelerate is None:
            del asked["mask"], asked["center_fraction"], asked["seed"]
        slices = None if self.slices is None else list(self.slices)
        asked.update(slices=slices, model=model_sha256, toolkit_version=__version__)
        return asked


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of a job: a volume without its voxels, an error, or nothing because it had been done before.

    Of several volumes it is the first; ``volumes`` says how many were written.
    """

    job: Job
    seconds: float = 0.0
    volume: Volume | None = None
    volumes: int = 0
    error: NirvanaError | OSError | None = None

    @property
    def skipped(self) -> bool:
        return self.volume is None and self.error is None


def run(
    jobs: Sequence[Job],
    recipe: Recipe,
    *,
    reading: Reading | None = None,
    writing: Writing | None = None,
    redo: bool,
    progress: Progress | None = None,
) -> Iterator[Outcome]:
    """Do the jobs in turn, each outcome as it comes; only a few slices of one scan are in memory at a time.

    Without ``redo`` a job is skipped whose output answers the same request and is newer than all that it was made from.
    """
    reading, writing = reading or Reading(), writing or Writing()
    request = recipe.request(_model_sha256(recipe)) | reading.given
    if writing.assume_orientation:
        request["assume_orientation"] = writing.assume_orientation
    sources = [] if recipe.mask in MASKS else [mask_file(recipe.mask)]
    sources += [] if recipe.error_bars in (None, SHIPPED) else [Path(recipe.error_bars)]
    for job in jobs:
        try:
            if not redo and is_done(job, request, sources):
                yield Outcome(job)
                continue
            began = time.monotonic()
            volumes = _made(job, recipe, reading, writing, request, progress)
            job.out.parent.mkdir(parents=True, exist_ok=True)
            save(volumes, job.out, **writing.options)
            told = replace(volumes[0], voxels=nothing(volumes[0].voxels.shape, volumes[0].voxels.dtype))
            yield Outcome(job, time.monotonic() - began, told, len(volumes))
        except (NirvanaError, OSError) as error:
            yield Outcome(job, error=_about(job, error))


def _made(
    job: Job,
    recipe: Recipe,
    reading: Reading,
    writing: Writing,
    request: dict[str, Any],
    progress: Progress | None,
) -> list[Volume]:
    """The volumes of one scan, their voxels on disk. Raises early for what cannot be written."""
    first, scans = reading.open(job.scan)
    count = 1 if reading.volume is not None else first.volumes
    if count > 1 and output_format(job.out, writing.format) == "h5":
        raise UsageError(
            f"{job.scan} holds {count} volumes, and an .h5 one; choose --volume 0 to {count - 1}, or .nii.gz or .dcm"
        )
    check_output(job.out, volumes=count, orientation_known=first.geometry.orientation_known, **writing.options)
    volumes: list[Volume] = []
    for scan in scans:
        head, pictures = recipe.start(scan, progress)
        head = replace(head, provenance={**head.provenance, "request": request})
        total = len(head.voxels) * count
        with closing(pictures):
            told = _told(pictures, len(head.voxels) * len(volumes), total, progress)
            volumes.append(spooled(head, told, job.out))
    return volumes


def _told(
    pictures: Iterable[NDArray[Any]], before: int, total: int, progress: Progress | None
) -> Iterator[NDArray[Any]]:
    """The pictures, and a word on each."""
    for done, picture in enumerate(pictures, before + 1):
        yield picture
        if progress is not None:
            progress(done, total)


def _about(job: Job, error: NirvanaError | OSError) -> NirvanaError | OSError:
    """The error, which names the scan."""
    if isinstance(error, OSError) or str(job.scan) in str(error):
        return error
    return type(error)(f"{job.scan}: {error}").with_traceback(error.__traceback__)


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


def _model_sha256(recipe: Recipe) -> str | None:
    if recipe.method in PEERS:
        return load_peer(recipe.method, weights_file(recipe.model)).sha256
    if recipe.method != "nirvana":
        return None
    from nirvana_mri.recon.checkpoint import load_model

    return load_model(recipe.model, recipe.device).sha256
