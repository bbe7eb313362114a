"""Paired comparisons of an evaluation, in words and as a table."""

from __future__ import annotations

from html import escape

from nirvana_mri.report.evaluation_values import NOTHING, Values, counted, metric
from nirvana_mri.report.html import paragraph, scores_table

LEVEL = 0.05  # of the test: above it, an interval without 0 is not taken for a difference


def comparisons(values: Values) -> str:
    """Each paired comparison of the main metric in a sentence, and all of them in a table."""
    rows = values.rows("paired")
    if not rows:
        return ""
    said = "".join(
        f"<li>{_in_words(values, place)}</li>"
        for place, row in enumerate(rows)
        if row.get("metric") == values.metrics[0]
    )
    table = []
    for place, row in enumerate(rows):
        at, form = f"paired.{place}", metric(str(row.get("metric"))).form
        table.append(
            (
                " − ".join(escape(str(name)) for name in row["methods"]),
                escape(metric(str(row.get("metric"))).head),
                values.show(f"{at}.difference", form),
                values.interval(f"{at}.interval", form) or NOTHING,
                values.show(f"{at}.p", ".2g"),
                values.show(f"{at}.effect_size", ".2f"),
                values.show(f"{at}.pairs"),
            )
        )
    head = ("difference of", "metric", "mean", values.interval_name, "p", "effect size", "pairs")
    of_patients = values.at("bootstrap.resampled") == "patients"
    note = "Intervals and tests count patients: a pair is the mean difference of one patient." if of_patients else ""
    return (
        (f"<ul>{said}</ul>" if said else "")
        + scores_table(head, table, main=None, words=2)
        + (paragraph(note, "soft") if note else "")
    )


def _in_words(values: Values, place: int) -> str:
    """What one comparison shows, and no more than that."""
    at, row = f"paired.{place}", values.rows("paired")[place]
    one, other = (f"<strong>{escape(str(name))}</strong>" for name in row["methods"])
    kind = metric(str(row.get("metric")))
    difference, interval = values.at(f"{at}.difference"), values.interval(f"{at}.interval", kind.form)
    unit = escape(f"{kind.unit} {kind.name}".strip())
    pairs = counted(values, f"{at}.pairs", "pair")
    p = f"p {values.show(f'{at}.p', '.2g')}, " if values.at(f"{at}.p") is not None else ""
    if difference is None:
        return f"{one} and {other} could not be compared in {unit}: {pairs}."
    if not interval:
        return f"No difference shown between {one} and {other}: {pairs} give no interval."
    figures = f"{values.show(f'{at}.difference', kind.form)} {unit} [{interval}], {p}{pairs}"
    low, high = values.at(f"{at}.interval.0"), values.at(f"{at}.interval.1")
    if low <= 0 <= high:
        return f"No difference shown between {one} and {other}: {figures}; the interval holds 0."
    if (values.at(f"{at}.p") or 0) > LEVEL:
        return (
            f"Undecided between {one} and {other}: {figures}; the interval leaves 0 out, but the test does not agree."
        )
    lower = " (lower is better)" if kind.better == "lower" else ""
    side = "above" if difference > 0 else "below"
    return f"{one} is {side} {other}{lower} {'by' if difference > 0 else 'with a difference of'} {figures}."
