"""The pieces of a self-contained page: no script, nothing fetched, one look for all of them. Text is escaped here."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from matplotlib.figure import Figure

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
        temporary.write_text(page, encoding="utf-8")
    return Path(path)


def section(heading: str, *pieces: str) -> str:
    """A heading and what stands below it; nothing where there is nothing below."""
    content = "\n".join(piece for piece in pieces if piece)
    return f"<h2>{escape(heading)}</h2>\n{content}" if content else ""


def paragraph(text: str, kind: str = "") -> str:
    """Plain text as a paragraph; ``kind`` is a class of the page's style, ``soft`` say."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def number(text: str, field: str) -> str:
    """A number as it is shown, and the path of the JSON field that holds it (``mean.ssim``, ``volumes.0.psnr``)."""
    return f'<span data-field="{escape(field)}">{escape(text)}</span>'


def facts_table(facts: Iterable[tuple[str, str]], field: str = "") -> str:
    """Rows of what and value, both plain text; ``field`` is the path of the JSON object that holds them."""
    rows = "".join(f"<tr><th>{escape(label)}</th><td>{escape(value)}</td></tr>" for label, value in facts)
    source = f' data-field="{escape(field)}"' if field else ""
    return f'<table class="facts"{source}><tbody>{rows}</tbody></table>'


def scores_table(head: Sequence[str], rows: Iterable[Sequence[str]], main: int | None = 0) -> str:
    """A table of figures, the first column words. Heads are plain text, cells HTML; row ``main`` stands out."""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        f'<tr class="{"main" if place == main else "beside"}">' + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>"
        for place, row in enumerate(rows)
    )
    return f'<div class="wide"><table class="scores"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def warnings_list(warnings: Iterable[str]) -> str:
    """A section of warnings, plain text; nothing where there are none."""
    items = "".join(f"<li>{escape(note)}</li>" for note in warnings)
    return section("Warnings", f'<ul class="warnings">{items}</ul>' if items else "")


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
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>"


def figure(drawn: Figure, what: str, caption: str = "") -> str:
    """A drawing as a picture inside the page. ``what`` is said to those who cannot see it."""
    image = base64.b64encode(png(drawn)).decode()
    return (
        f'<figure><img alt="{escape(what)}" src="data:image/png;base64,{image}">'
        f"<figcaption>{escape(caption or what)}</figcaption></figure>"
    )
