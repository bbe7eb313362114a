"""The pieces of a self-contained page: no script, nothing fetched, one look for all of them. Text is escaped here."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from nirvana_mri import __version__
from nirvana_mri.atomic import atomic_path
from nirvana_mri.figures import png
from nirvana_mri.volume import NOT_FOR_CLINICAL_USE


def document(title: str, lead: str, body: Iterable[str]) -> str:
    """A whole page. ``title`` and ``lead`` are plain text, ``body`` pieces of HTML made by the functions below."""
    template = Template(files("nirvana_mri.report").joinpath("page_template.html").read_text("utf-8"))
    return template.substitute(
        title=escape(title),
        lead=escape(lead),
        notice=escape(NOT_FOR_CLINICAL_USE),
        body="\n".join(piece for piece in body if piece),
        version=escape(__version__),
    )


def write_page(page: str, path: str | Path) -> Path:
    """Write the page, whole or not at all."""
    with atomic_path(path) as temporary:
        # A file name may hold bytes that are no letters.
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")
    return Path(path)


def section(heading: str, *pieces: str) -> str:
    """A heading and what stands below it; nothing where there is nothing below."""
    content = "\n".join(piece for piece in pieces if piece)
    return f'<h2 id="{_place(heading)}">{escape(heading)}</h2>\n{content}' if content else ""


def subsection(heading: str, *pieces: str) -> str:
    """A smaller heading and what stands below it."""
    return "\n".join((f"<h3>{escape(heading)}</h3>", *pieces))


def contents(sections: Iterable[str]) -> str:
    """Links to the sections of the page, found by their headings in the HTML of each."""
    headings = re.findall(r'<h2 id="([^"]*)">(.*?)</h2>', "\n".join(sections))
    links = "".join(f'<a href="#{place}">{heading}</a> ' for place, heading in headings)
    return f'<nav aria-label="contents">{links}</nav>'


def paragraph(text: str, kind: str = "") -> str:
    """Plain text as a paragraph; ``kind`` is a class of the page's style, ``soft`` say."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def number(text: str, field: str) -> str:
    """A number as it is shown, and the path of the JSON field that holds it (``mean.ssim``, ``volumes.0.psnr``)."""
    return f'<span data-field="{escape(field)}">{escape(text)}</span>'


def facts_table(facts: Iterable[tuple[str, str]], field: str = "") -> str:
    """Rows of what and value, both plain text; ``field`` is the path of the JSON object that holds them."""
    return values_table(((label, escape(value)) for label, value in facts), field)


def values_table(values: Iterable[tuple[str, str]], field: str = "") -> str:
    """Rows of what, plain text, and value, HTML that was made here; ``field`` as for :func:`facts_table`."""
    rows = "".join(f'<tr><th scope="row">{escape(label)}</th><td>{value}</td></tr>' for label, value in values)
    source = f' data-field="{escape(field)}"' if field else ""
    return f'<table class="facts"{source}><tbody>{rows}</tbody></table>'


def scores_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], main: int | None = 0, words: int = 1, kind: str = ""
) -> str:
    """A table of figures, the first ``words`` columns words. Heads are plain text, cells HTML; row ``main`` stands out.

    ``kind`` is a class of the page's style, ``long`` say.
    """
    left = [' class="word"' if column < words else "" for column in range(len(head))]
    top = "".join(f'<th scope="col"{side}>{escape(name)}</th>' for name, side in zip(head, left, strict=True))
    body = "".join(
        f'<tr class="{"main" if place == main else "beside"}">'
        + "".join(f"<td{side}>{cell}</td>" for cell, side in zip(row, left, strict=True))
        + "</tr>\n"
        for place, row in enumerate(rows)
    )
    table = f'<table class="scores"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="{f"wide {kind}".strip()}" tabindex="0">{table}</div>'


def warnings_list(warnings: Iterable[str]) -> str:
    """A section of warnings, plain text; nothing where there are none."""
    notes = list(warnings)
    return section("Warnings", bullets(notes, "warnings") if notes else "")


def bullets(items: Iterable[str], kind: str = "") -> str:
    """A list of plain texts; ``kind`` is a class of the page's style."""
    points = "".join(f"<li>{escape(item)}</li>" for item in items)
    return f'<ul class="{kind}">{points}</ul>' if kind else f"<ul>{points}</ul>"


def badges(items: Iterable[tuple[str, str, str, str]]) -> str:
    """A row of (label, figure as HTML, what it means, state): label and meaning plain text; a state colours it."""
    cards = "".join(
        f'<div class="badge {escape(state)}"><b>{figure}</b><span>{escape(label)}</span><p>{escape(meaning)}</p></div>'
        for label, figure, meaning, state in items
    )
    return f'<div class="badges">{cards}</div>'


def details(summary: str, values: Mapping[str, Any]) -> str:
    """Folded away: everything that is known, as JSON."""
    text = json.dumps(dict(values), indent=2, default=str, ensure_ascii=False)
    return folded(summary, f"<pre>{escape(text)}</pre>")


def folded(summary: str, *pieces: str) -> str:
    """Folded away until it is asked for; not printed."""
    return f"<details><summary>{escape(summary)}</summary>{''.join(pieces)}</details>"


def to_copy(text: str) -> str:
    """Plain text that one click selects, to be pasted elsewhere."""
    return f'<pre class="copy">{escape(text)}</pre>'


def side_by_side(*pieces: str) -> str:
    """Pieces beside each other as far as the window is wide."""
    return f'<div class="abreast">{"".join(pieces)}</div>' if any(pieces) else ""


def figure(drawn: Figure, what: str, caption: str = "", kind: str = "") -> str:
    """A drawing as a picture inside the page. ``what`` is said to those who cannot see it.

    ``kind`` is a class of the page's style: ``chart`` for drawings of numbers.
    """
    image = _image(png(drawn), what)
    return f'<figure class="{kind}">{image}<figcaption>{escape(caption or what)}</figcaption></figure>'


def picture(grey: NDArray[np.uint8], what: str) -> str:
    """A grey picture ``[ny nx]``, pixel by pixel, inside the page."""
    stream = io.BytesIO()
    Image.fromarray(grey).save(stream, "PNG", optimize=True)
    return _image(stream.getvalue(), what)


def _image(data: bytes, what: str) -> str:
    return f'<img alt="{escape(what)}" src="data:image/png;base64,{base64.b64encode(data).decode()}">'


def _place(heading: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-")
