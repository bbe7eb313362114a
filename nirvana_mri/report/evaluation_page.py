"""One self-contained page about an evaluation: no script, nothing fetched, prints well."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from nirvana_mri.report.charts import strips
from nirvana_mri.report.evaluation_cases import Pictures, worst_cases
from nirvana_mri.report.evaluation_comparisons import comparisons
from nirvana_mri.report.evaluation_tables import groups, regions, summary, volumes
from nirvana_mri.report.evaluation_values import Values, left_out, metric
from nirvana_mri.report.html import (
    bullets,
    contents,
    details,
    document,
    figure,
    paragraph,
    section,
    side_by_side,
    subsection,
    to_copy,
    values_table,
)
from nirvana_mri.volume import NOT_FOR_CLINICAL_USE

MOST_NAMES = 50  # of files that are missing or extra


def make_evaluation_page(result: Mapping[str, Any], pictures: Pictures | None = None) -> str:
    """HTML about what ``nirvana-mri evaluate --json`` holds. All text from files is escaped.

    ``pictures(row)`` gives the target [ny nx] of the worst slice of a row of ``volumes``, and that slice by each
    method; it is asked for the few rows that are shown. Numbers carry the path of their JSON field.
    """
    values = Values(result)
    sections = [
        section("Summary", summary(values), _notes(values)),
        section("Paired comparisons", comparisons(values)),
        section("Groups", groups(values)),
        section("Labelled regions", regions(values)),
        section("Distributions", _distributions(values)),
        section("Worst cases", worst_cases(values, pictures)),
        section("All volumes", volumes(values)),
        section("Missing and extra", _left_over(values)),
        section("Provenance", _provenance(values)),
        section("Methods paragraph", _methods_paragraph(values)),
    ]
    others = f"Compared with {', '.join(values.methods[1:])}, s" if values.methods[1:] else "S"
    return document(
        f"Evaluation of {values.methods[0] if values.methods else 'nothing'}",
        f"{others}cored by the protocol {values.at('protocol.name')}",
        (contents(sections), *sections),
    )


def _notes(values: Values) -> str:
    """What is to be known before the numbers are believed; the notice that every page has is not said twice."""
    said = str(values.at("notice") or "").removeprefix(NOT_FOR_CLINICAL_USE).strip(". ")
    return bullets(said.split(". "), "warnings") if said else ""


def _distributions(values: Values) -> str:
    """A chart per metric: one dot per volume."""
    charts = []
    for key in values.metrics:
        found = {
            name: [row.get(key) for row in values.rows("volumes") if row.get("method") == name]
            for name in values.methods
        }
        drawn = {
            name: [float(each) for each in row if each is not None and math.isfinite(each)]
            for name, row in found.items()
        }
        if not any(drawn.values()):
            continue
        absent = any(len(drawn[name]) < len(found[name]) for name in found)
        note = " Values that are missing or infinite are not drawn." if absent else ""
        better = f", {metric(key).better} is better" if metric(key).better else ""
        caption = f"{metric(key).name[0].upper()}{metric(key).name[1:]}{better}.{note}"
        charts.append(
            figure(strips(drawn, metric(key).head), f"{metric(key).name} of each volume, by method", caption, "chart")
        )
    if not charts:
        return ""
    rule = "A dot per volume; the box holds the middle half of them about the median, whiskers reach 1.5 boxes further."
    return paragraph(rule, "soft") + side_by_side(*charts)


def _left_over(values: Values) -> str:
    """Targets without a prediction and predictions without a target, by name."""
    pieces = []
    for field, what in (("missing", "Targets without a prediction"), ("extra", "Predictions without a target")):
        names = [str(name) for name in values.at(field) or ()]
        if names:
            pieces += [paragraph(f"{what}; not part of any score:"), bullets(names[:MOST_NAMES])]
            pieces += [paragraph(left_out(len(names), MOST_NAMES, "files", "the JSON"), "soft")]
    return "\n".join(pieces) or paragraph("Nothing: every target has its prediction, every prediction its target.")


def _provenance(values: Values) -> str:
    """The rule, how k-space was sampled, and how to get the same numbers again."""
    rule = dict(values.scalars("protocol"))
    if values.at("toolkit_version"):
        rule.setdefault("toolkit version", values.text("toolkit_version"))
    sampling = list(values.scalars("sampling"))
    command = values.at("command")
    return "\n".join(
        (
            paragraph("Compare these scores only with scores whose protocol has the same hash.", "soft"),
            values_table(rule.items()),
            subsection("Sampling", values_table(sampling)) if sampling else "",
            subsection("Intervals", values_table(values.scalars("bootstrap"))) if values.at("bootstrap") else "",
            _models(values),
            subsection(
                "How to get the same numbers again",
                paragraph("Run this on the same files, with the same version of the toolkit:", "soft"),
                to_copy(str(command)),
            )
            if command
            else "",
            details("protocol and sampling as JSON", {key: values.at(key) for key in ("protocol", "sampling")}),
        )
    )


def _models(values: Values) -> str:
    """Which weights stood behind which method."""
    rows = [
        (str(row["method"]), f"{values.text(f'by_method.{place}.model')} (sha256 {values.text(at)})")
        for place, row in enumerate(values.rows("by_method"))
        if values.at(at := f"by_method.{place}.model_sha256")
    ]
    return subsection("Models", values_table(rows)) if rows else ""


def _methods_paragraph(values: Values) -> str:
    """Words for a paper, and what they cite."""
    citations = "\n".join(str(each) for each in values.at("citations") or ())
    text = "\n\n".join(words for words in (str(values.at("methods_paragraph") or ""), citations) if words)
    return paragraph("Ready to paste: one click selects all of it.", "soft") + to_copy(text) if text else ""
