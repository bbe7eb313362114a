"""One self-contained page about a scan and its reconstruction: no script, nothing fetched, prints well."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nirvana_mri import __version__
from nirvana_mri.atomic import atomic_path
from nirvana_mri.errors import DataError, ProtocolError
from nirvana_mri.eval.evaluate import Score, evaluate
from nirvana_mri.eval.target import Target, centre_crop, open_target
from nirvana_mri.figures import Panel, comparison, png
from nirvana_mri.io.writers.derivation import method_words
from nirvana_mri.report.facts import Facts, reconstruction_facts, scan_facts
from nirvana_mri.report.inspect import inspect
from nirvana_mri.scan import Scan
from nirvana_mri.volume import NOT_FOR_CLINICAL_USE, Volume

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
    template = Template(files("nirvana_mri.report").joinpath("page_template.html").read_text("utf-8"))
    return template.substitute(
        title=escape(f"Reconstruction of {scan.name}"),
        lead=escape(
            f"{method_words(main)} from {found.coils}-coil k-space, {len(main.slices)} of {found.slices} slices"
        ),
        notice=escape(NOT_FOR_CLINICAL_USE),
        warnings=_list(warnings),
        figures="\n".join(_figure(scored, number) for number in _chosen(main)),
        scores=_scores(scored),
        reconstruction=_table(reconstruction_facts(main)) + _details("provenance", main.provenance),
        scan=_table(scan_facts(found)) + _details("all of it", found.as_dict()),
        version=escape(__version__),
    )


def write_page(page: str, path: str | Path) -> Path:
    """Write the page, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return Path(path)


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
    image = base64.b64encode(png(comparison(panels, target))).decode()
    names = ", ".join(panel.title for panel in panels)
    what = f"slice {number}: {names}" + ("; below, the error of each, 5 times" if target is not None else "")
    caption = f"{what}. Scores are of the whole volume." if any(scored.scores) else f"{what}."
    return (
        f'<figure><img alt="{escape(what)}" src="data:image/png;base64,{image}">'
        f"<figcaption>{escape(caption[0].upper() + caption[1:])}</figcaption></figure>"
    )


def _scores(scored: Scored) -> str:
    rows = [
        (
            method_words(volume),
            f"{score.ssim:.4f}",
            f"{score.psnr:.2f}",
            f"{score.nmse:.5f}",
            _times(score.acceleration),
        )
        for volume, score in zip(scored.volumes, scored.scores, strict=True)
        if score is not None
    ]
    if not rows:
        return '<p class="soft">None: there is no target to compare with.</p>'
    head = "".join(f"<th>{name}</th>" for name in ("method", "SSIM", "PSNR [dB]", "NMSE", "acceleration"))
    body = "".join(
        f'<tr class="{"beside" if i else "main"}">' + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
        for i, row in enumerate(rows)
    )
    protocol = next(score.protocol for score in scored.scores if score is not None)
    rule = {key: value for key, value in protocol.as_dict().items() if value}
    return (
        f'<table class="scores"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        f'<p class="soft">Protocol {escape(protocol.name)}: compare these only with scores of the same protocol.</p>'
        + _details("protocol", rule)
    )


def _times(acceleration: float | None) -> str:
    return "" if acceleration is None else f"{acceleration:.2f}x"


def _table(facts: Facts) -> str:
    rows = "".join(f"<tr><th>{escape(label)}</th><td>{escape(value)}</td></tr>" for label, value in facts)
    return f'<table class="facts"><tbody>{rows}</tbody></table>'


def _list(warnings: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(note)}</li>" for note in warnings)
    return f'<h2>Warnings</h2><ul class="warnings">{items}</ul>' if items else ""


def _details(summary: str, values: Any) -> str:
    text = json.dumps(dict(values), indent=2, default=str, ensure_ascii=False)
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>"
