"""One self-contained page about a scan and its reconstruction: no script, nothing fetched, prints well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.errors import DataError, ProtocolError
from nirvana_mri.eval.evaluate import Score, evaluate
from nirvana_mri.eval.target import Target, centre_crop, open_target
from nirvana_mri.figures import Panel, comparison
from nirvana_mri.io.writers.derivation import method_words
from nirvana_mri.report.facts import reconstruction_facts, scan_facts
from nirvana_mri.report.html import (
    details,
    document,
    facts_table,
    figure,
    paragraph,
    scores_table,
    section,
    warnings_list,
)
from nirvana_mri.report.inspect import inspect
from nirvana_mri.scan import Scan
from nirvana_mri.volume import Volume

SHOWN = 3  # slices with pictures


@dataclass(frozen=True, eq=False)
class Scored:
    """Reconstructions of one scan with their scores, the main one first; no scores where there is no target."""

    volumes: tuple[Volume, ...]
    scores: tuple[Score | None, ...]
    target: Target | None
    notes: tuple[str, ...]


def make_page(scan: Scan, volumes: Sequence[Volume], target: Scan | str | Path | None = None) -> str:
    """HTML about ``scan`` and its reconstructions: ``volumes[0]`` is the one reported, the others stand beside it.

    Scores are against ``target``, or else what the scan holds. All text from files is escaped.
    """
    scored = score_all(scan, volumes, target)
    found = inspect(scan)
    main = volumes[0]
    warnings = tuple(dict.fromkeys((*found.warnings, *main.warnings, *scored.notes)))
    return document(
        f"Reconstruction of {scan.name}",
        f"{method_words(main)} from {found.coils}-coil k-space, {len(main.slices)} of {found.slices} slices",
        (
            warnings_list(warnings),
            section("Pictures", *(_figure(scored, number) for number in _chosen(main))),
            section("Scores", _scores(scored)),
            section(
                "How it was reconstructed",
                facts_table(reconstruction_facts(main)),
                details("provenance", main.provenance),
            ),
            section("What the scan is", facts_table(scan_facts(found)), details("all of it", found.as_dict())),
        ),
    )


def score_all(scan: Scan, volumes: Sequence[Volume], target: Scan | str | Path | None = None) -> Scored:
    """Scores by fastMRI's rule where there is a target and the rule can be applied; else a note that says why not."""
    nothing = (None,) * len(volumes)
    if target is None and scan.reference is None and not scan.fully_sampled:
        return Scored(tuple(volumes), nothing, None, ("no scores: the scan holds no target and is undersampled",))
    pictures = open_target(scan if target is None else target)
    try:
        scores = tuple(evaluate(volume, scan if target is None else target) for volume in volumes)
    except ProtocolError as problem:
        if target is not None:
            raise
        return Scored(tuple(volumes), nothing, pictures, (f"no scores: {problem}",))
    same = (volumes[0].provenance.get("sampling") or {}).get("origin") == "fully sampled"
    notes = ("nothing was left out: the scores compare two pictures of the same samples",) if same else ()
    return Scored(tuple(volumes), scores, pictures, notes)


def score_words(score: Score | None) -> str:
    """SSIM and PSNR for a caption."""
    return f"SSIM {score.ssim:.4f}   PSNR {score.psnr:.2f} dB" if score else ""


def panels_of(scored: Scored, number: int) -> tuple[list[Panel], NDArray[Any] | None]:
    """The pictures of scan slice ``number``, cut to one size, and its target where there is one."""
    place = scored.volumes[0].slices.index(number)
    pictures = [volume.magnitude[place] for volume in scored.volumes]
    wanted = None if scored.target is None else scored.target.pictures[number]
    shapes = [picture.shape for picture in (*pictures, *([] if wanted is None else [wanted]))]
    size = (min(shape[0] for shape in shapes), min(shape[1] for shape in shapes))
    panels = [
        Panel(str(volume.provenance.get("method")), centre_crop(picture, size), score_words(score))
        for volume, picture, score in zip(scored.volumes, pictures, scored.scores, strict=True)
    ]
    return panels, None if wanted is None else centre_crop(wanted, size)


def _chosen(volume: Volume) -> list[int]:
    """Slice numbers to show: at a quarter, the middle and three quarters of the volume."""
    count = len(volume.slices)
    places = sorted({round((count - 1) * share) for share in np.linspace(0, 1, SHOWN + 2)[1:-1]})
    return [volume.slices[place] for place in places]


def _figure(scored: Scored, number: int) -> str:
    panels, target = panels_of(scored, number)
    if not panels[0].picture.size:
        raise DataError(f"slice {number} has no picture; reconstruct it again")
    names = ", ".join(panel.title for panel in panels)
    what = f"slice {number}: {names}" + ("; below, the error of each, 5 times" if target is not None else "")
    caption = f"{what}. Scores are of the whole volume." if any(scored.scores) else f"{what}."
    return figure(comparison(panels, target), what, caption[0].upper() + caption[1:])


def _scores(scored: Scored) -> str:
    rows = [
        (
            escape(method_words(volume)),
            f"{score.ssim:.4f}",
            f"{score.psnr:.2f}",
            f"{score.nmse:.5f}",
            _times(score.acceleration),
        )
        for volume, score in zip(scored.volumes, scored.scores, strict=True)
        if score is not None
    ]
    if not rows:
        return paragraph("None: there is no target to compare with.", "soft")
    protocol = next(score.protocol for score in scored.scores if score is not None)
    rule = {key: value for key, value in protocol.as_dict().items() if value}
    return (
        scores_table(("method", "SSIM", "PSNR [dB]", "NMSE", "acceleration"), rows)
        + paragraph(f"Protocol {protocol.name}: compare these only with scores of the same protocol.", "soft")
        + details("protocol", rule)
    )


def _times(acceleration: float | None) -> str:
    return "" if acceleration is None else f"{acceleration:.2f}x"
