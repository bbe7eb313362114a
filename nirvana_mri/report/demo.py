"""The embedded demonstration: a scan of a real brain picture, reconstructed in every way, scored, shown."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.atomic import atomic_path
from nirvana_mri.eval.evaluate import Score, evaluate
from nirvana_mri.eval.protocol import require_same
from nirvana_mri.eval.target import centre_crop
from nirvana_mri.figures import comparison, save_png
from nirvana_mri.io.nifti import read_image_volume
from nirvana_mri.io.save import save
from nirvana_mri.recon.batch import Recipe
from nirvana_mri.recon.simulate import simulate
from nirvana_mri.report.html import write_page
from nirvana_mri.report.page import make_page, panels_of
from nirvana_mri.report.scored import score_all
from nirvana_mri.scan import Scan
from nirvana_mri.volume import NOT_FOR_CLINICAL_USE, Volume

METHODS = ("zero-filled", "sense", "wavelet", "nirvana")
BRAIN = "tests/data/example4d.nii.gz"  # in nibabel: echo-planar brain, 24 slices of 96x128 at 2x2x2.2 mm, MIT licence
SLICES = range(4, 20, 3)
FIELD = (128, 112)  # pixels, 2 mm each: air before and behind the head, less beside it
VOXEL_MM = (6.6, 2.0, 2.0)  # every third slice
SHOWN = 3  # place among SLICES of the slice in the picture
ACCELERATE = 4.0

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Demo:
    """What the demonstration left, and how its methods compare (in the order of METHODS)."""

    folder: Path
    source: str
    scores: tuple[Score, ...]
    volumes: tuple[Volume, ...]
    seconds: tuple[float, ...]


def run_demo(folder: Path, model: str = "nano", progress: Progress | None = None) -> Demo:
    """Simulate, reconstruct at 4x with every method, score; leave h5 files, scores.json, comparison.png, page.html.

    Run again, it makes the same files anew. Nothing is downloaded.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures, source = brain()
    scan = simulate(pictures, coils=8, seed=0, voxel_mm=VOXEL_MM, out=folder / "scan.h5", name="demo")
    volumes, seconds = [], []
    for method in METHODS:
        began = time.monotonic()
        recipe = Recipe(method=method, model=model, accelerate=ACCELERATE)
        shown = None if progress is None else _named(progress, method)
        volumes.append(recipe.apply(scan, shown))
        seconds.append(time.monotonic() - began)
        save(volumes[-1], folder / f"{method}.h5")
    scores = tuple(replace(evaluate(v, scan), file=f"{m}.h5") for v, m in zip(volumes, METHODS, strict=True))
    demo = Demo(folder, source, scores, tuple(volumes), tuple(seconds))
    _write_json(demo)
    _write_picture(demo, scan)
    write_page(make_page(scan, volumes[::-1]), folder / "page.html")
    return demo


def brain() -> tuple[NDArray[np.float32], str]:
    """A real brain at its own resolution, ``[slice, ny, nx]``, and where it comes from; a phantom where it is missing.

    The field of view is set round the head. Nothing is interpolated: a picture blown up fills the outer k-space with
    nothing, and the task would look easier than it is.
    """
    path = Path(str(files("nibabel").joinpath(BRAIN)))
    if path.is_file():
        volume, _ = read_image_volume(path, volume=0)
        words = "a real brain (echo-planar, 2 mm; example data of nibabel, MIT licence), coils and phase simulated"
        return set_field(volume[list(SLICES)], FIELD), words
    from skimage.data import shepp_logan_phantom

    phantom = shepp_logan_phantom()[::2, ::2].astype(np.float32)
    return phantom[None].repeat(2, axis=0), "the Shepp-Logan phantom (nibabel's example data are not installed)"


def set_field(pictures: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """The same pixels in another field of view about the centre: trimmed where smaller, air added where larger."""
    missing = [max(m - n, 0) for n, m in zip(pictures.shape[-2:], size, strict=True)]
    padded = np.pad(pictures, [(0, 0), *((gap - gap // 2, gap // 2) for gap in missing)])
    return centre_crop(padded, size)


def _named(progress: Progress, method: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(method, done, total)


def _write_json(demo: Demo) -> None:
    rows = [
        {**score.as_dict(), "method": method, "seconds": round(seconds, 3), **_model(volume)}
        for score, method, seconds, volume in zip(demo.scores, METHODS, demo.seconds, demo.volumes, strict=True)
    ]
    protocol = require_same((score.file, score.protocol) for score in demo.scores)
    content = {
        "source": demo.source,
        "sampling": demo.volumes[0].provenance["sampling"],
        "protocol": protocol.as_dict(),
        "volumes": rows,
        "notice": NOT_FOR_CLINICAL_USE,
    }
    with atomic_path(demo.folder / "scores.json") as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _model(volume: Volume) -> dict[str, Any]:
    return {key: volume.provenance[key] for key in ("model", "model_sha256")}


def _write_picture(demo: Demo, scan: Scan) -> None:
    scored = score_all(scan, demo.volumes)
    number = demo.volumes[0].slices[min(SHOWN, len(demo.volumes[0].slices) - 1)]
    panels, target = panels_of(scored, number)
    achieved = demo.volumes[0].provenance["sampling"]["achieved_acceleration"]
    title = f"Simulated 8-coil scan of {demo.source.split(' (')[0]}, {achieved:.2f}x accelerated, slice {number}"
    save_png(comparison(panels, target, title), demo.folder / "comparison.png")
