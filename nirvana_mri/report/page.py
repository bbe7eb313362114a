"""One self-contained page about a scan and its reconstruction: no script, nothing fetched, prints well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nirvana_mri.errors import DataError
from nirvana_mri.eval.evaluate import Score
from nirvana_mri.eval.target import centre_crop
from nirvana_mri.figures import Panel, comparison, png
from nirvana_mri.findings.finding import Findings
from nirvana_mri.io.writers.derivation import method_words
from nirvana_mri.report.facts import reconstruction_facts, scan_facts
from nirvana_mri.report.findings_section import findings_section
from nirvana_mri.report.html import (
    details,
    document,
    facts_table,
    figure,
    number,
    paragraph,
    scores_table,
    section,
    warnings_list,
)
from nirvana_mri.report.inspect import Inspection, inspect
from nirvana_mri.report.scored import Scored, score_all
from nirvana_mri.report.technical import make_facts
from nirvana_mri.report.trust_view import badge_row, maps_figure, trust_words
from nirvana_mri.scan import Scan
from nirvana_mri.volume import Volume

SHOWN = 3  # slices with pictures


def make_page(scan: Scan, volumes: Sequence[Volume], target: Scan | str | Path | None = None) -> str:
    """HTML about ``scan`` and its reconstructions: ``volumes[0]`` is the one reported, the others stand beside it.

    Scores are against ``target``, or else what the scan holds. All text from files is escaped.
    """
    scored, found = score_all(scan, volumes, target), inspect(scan)
    return page_of(scored, make_facts(found, scored), found)


def page_of(scored: Scored, facts: Mapping[str, Any], found: Inspection | None, draft: Findings | None = None) -> str:
    """The page of these facts (see :func:`make_facts`); every figure on it names the fact that holds it."""
    main = scored.volumes[0]
    of = f"{found.coils}-coil k-space, {len(main.slices)} of {found.slices} slices" if found else "a file of its own"
    return document(
        f"Reconstruction of {found.name if found else main.name}",
        f"{method_words(main)} from {of}",
        (
            badge_row(facts),
            warnings_list(facts["warnings"]),
            section(
                "Pictures",
                *(piece for slice_number in _seen(main) or _chosen(main) for piece in _shown(scored, slice_number)),
            ),
            section("How far to trust it", trust_words(facts)),
            section("Scores", _scores(facts)),
            findings_section(draft.as_dict(), dict(zip(main.slices, main.magnitude, strict=True))) if draft else "",
            section(
                "How it was reconstructed",
                facts_table(reconstruction_facts(main), "reconstruction"),
                _commands(facts),
                details("provenance", main.provenance),
            ),
            section("What the scan is", facts_table(scan_facts(found), "scan"), details("all of it", found.as_dict()))
            if found
            else "",
        ),
    )


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


def pictures_of(scored: Scored) -> dict[str, bytes]:
    """PNG files of the slices that a report shows, by caption."""
    drawn = (_drawn(scored, slice_number) for slice_number in _seen(scored.volumes[0]) or _chosen(scored.volumes[0]))
    return {caption: png(picture) for picture, _, caption in drawn}


def _drawn(scored: Scored, number: int) -> tuple[Figure, str, str]:
    """A slice's pictures side by side; what they are, and a caption."""
    panels, target = panels_of(scored, number)
    if not panels[0].picture.size:
        raise DataError(f"slice {number} has no picture; reconstruct it again")
    names = ", ".join(panel.title for panel in panels)
    what = f"slice {number}: {names}" + ("; below, the error of each, 5 times" if target is not None else "")
    caption = f"{what}. Scores are of the whole volume." if any(scored.scores) else f"{what}."
    return comparison(panels, target), what, caption[0].upper() + caption[1:]


def _seen(volume: Volume) -> list[int]:
    """Slice numbers that trust has maps of."""
    return list(volume.provenance["trust"]["slices"]) if volume.maps else []


def _shown(scored: Scored, number: int) -> list[str]:
    """A slice's pictures, and the maps of it where there are any."""
    main, seen = scored.volumes[0], _seen(scored.volumes[0])
    pieces = [figure(*_drawn(scored, number))]
    if number in seen:
        bars = " and how wide the error bars are" if "error_bar" in main.maps else ""
        what = f"Slice {number}: how much of each pixel was measured, how much invented{bars}"
        pieces.append(figure(maps_figure(main, seen.index(number)), what, f"{what}."))
    return pieces


def _commands(facts: Mapping[str, Any]) -> str:
    return "".join(f"<p>{escape(what)}: <code>{escape(line)}</code></p>" for what, line in facts["commands"].items())


def _scores(facts: Mapping[str, Any]) -> str:
    scores = facts["scores"]
    if not scores:
        return paragraph("None: there is no target to compare with.", "soft")
    rows = [
        (
            escape(str(row["method"])),
            number(f"{row['ssim']:.4f}", f"scores.{place}.ssim"),
            "∞" if row["psnr"] is None else number(f"{row['psnr']:.2f}", f"scores.{place}.psnr"),
            number(f"{row['nmse']:.5f}", f"scores.{place}.nmse"),
            _times(row["acceleration"], f"scores.{place}.acceleration"),
        )
        for place, row in enumerate(scores)
    ]
    protocol = scores[0]["protocol"]
    return (
        scores_table(("method", "SSIM", "PSNR [dB]", "NMSE", "acceleration"), rows)
        + paragraph(f"Protocol {protocol['name']}: compare these only with scores of the same protocol.", "soft")
        + details("protocol", {key: value for key, value in protocol.items() if value})
    )


def _times(acceleration: float | None, field: str) -> str:
    return "" if acceleration is None else number(f"{acceleration:.2f}x", field)
