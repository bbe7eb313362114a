"""Summary, groups, regions and volumes of an evaluation, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from nirvana_mri.report.charts import Estimate, bars_with_intervals
from nirvana_mri.report.evaluation_values import Values, counted, left_out, metric
from nirvana_mri.report.html import figure, folded, paragraph, scores_table

MOST_ROWS = 500  # of a table: the CSV holds all of them
MOST_GROUPS = 12  # in the drawing
UNROLLED = 40  # rows of a table that is shown whole
WORST_REGIONS = 20


def summary(values: Values) -> str:
    """One sentence with the main number, and the table of methods."""
    if not values.rows("by_method") or not values.metrics:
        return paragraph("No volume could be scored.", "headline")
    key, name = values.metrics[0], escape(values.methods[0])
    interval = values.interval(f"intervals.{key}", metric(key).form)
    sentence = (
        f"<strong>{name}</strong> has a mean {escape(metric(key).name)} of "
        f"<strong>{values.show(f'mean.{key}', metric(key).form)}</strong> "
        f"({f'{values.interval_name} {interval}' if interval else 'no interval could be given'}) over "
        f"{counted(values, 'by_method.0.count', 'volume')} of {counted(values, 'by_method.0.patients', 'patient')}, "
        f"by the protocol {values.text('protocol.name')}."
    )
    return f'<p class="headline">{sentence}</p>' + _by_method(values)


def groups(values: Values) -> str:
    """A row per group and method, and the main metric of each group drawn with its interval."""
    rows = values.rows("groups")
    if not rows:
        return ""
    head = ("group", "method", "volumes", *(metric(key).head for key in values.metrics))
    table = [
        (
            "" if place and row.get("group") == rows[place - 1].get("group") else values.text(f"groups.{place}.group"),
            values.name(f"groups.{place}.method"),
            values.show(f"groups.{place}.count"),
            *(values.estimate(f"groups.{place}", key) for key in values.metrics),
        )
        for place, row in enumerate(rows)
    ]
    kind = "long" if len(rows) > UNROLLED else ""
    return _groups_drawn(rows, values.metrics[0]) + scores_table(head, table, main=None, words=2, kind=kind)


def volumes(values: Values) -> str:
    """Every volume's scores, folded away; the first 500 where there are more."""
    count = len(values.rows("volumes"))
    if not count:
        return ""
    numbers = [metric(key).head for key in values.metrics]
    head = ("file", "group", "method", *numbers, "acceleration", "worst slice", "its SSIM")
    table = [_volume(values, f"volumes.{place}") for place in range(min(count, MOST_ROWS))]
    note = f"Rows are as in the JSON; slices count from 0. {left_out(count, MOST_ROWS, 'rows', 'the CSV')}"
    return folded(
        f"All {count} rows" if count <= MOST_ROWS else f"The first {MOST_ROWS} of {count} rows",
        paragraph(note, "soft"),
        scores_table(head, table, main=None, words=3, kind="long"),
    )


def regions(values: Values) -> str:
    """Means of each label and method; folded away, the single regions with the lowest SSIM."""
    rows = values.rows("regions")
    order = sorted(range(len(rows)), key=lambda place: _low_first(rows[place].get("ssim")))[:WORST_REGIONS]
    if not order:
        return ""
    table = [
        (
            values.file(f"regions.{place}.file"),
            values.text(f"regions.{place}.label"),
            values.name(f"regions.{place}.method"),
            values.show(f"regions.{place}.slice"),
            " ".join(values.show(f"regions.{place}.box.{side}", "g") for side in range(4)),
            values.show(f"regions.{place}.ssim", metric("ssim").form),
            values.show(f"regions.{place}.nmse", metric("nmse").form),
        )
        for place in order
    ]
    head = ("file", "label", "method", "slice", "box x y w h", "SSIM", "NMSE")
    note = f"Lowest SSIM first; boxes in pixels. {left_out(len(rows), WORST_REGIONS, 'regions', 'the JSON')}"
    single = paragraph(note, "soft") + scores_table(head, table, main=None, words=3)
    return _by_label(values) + folded("The regions with the lowest SSIM", single)


def _by_method(values: Values) -> str:
    head = ("method", "volumes", "patients", *(metric(key).head for key in values.metrics))
    table = [
        (
            values.name(f"by_method.{place}.method"),
            values.show(f"by_method.{place}.count"),
            values.show(f"by_method.{place}.patients"),
            *(values.estimate(f"by_method.{place}", key) for key in values.metrics),
        )
        for place in range(len(values.rows("by_method")))
    ]
    better = {
        side: [metric(key).name for key in values.metrics if metric(key).better == side] for side in ("higher", "lower")
    }
    note = f"Means, each volume counting once, with the {values.interval_name} below. " + " ".join(
        f"{side.capitalize()} is better: {', '.join(names)}." for side, names in better.items() if names
    )
    if "edge_sharpness" in values.metrics:
        note += " Edge sharpness is relative to the target's: one is as sharp, less is blurred."
    return scores_table(head, table) + paragraph(note, "soft")


def _by_label(values: Values) -> str:
    table = [
        (
            values.text(f"region_labels.{place}.label"),
            values.name(f"region_labels.{place}.method"),
            values.show(f"region_labels.{place}.count"),
            values.show(f"region_labels.{place}.mean.ssim", metric("ssim").form),
            values.show(f"region_labels.{place}.mean.nmse", metric("nmse").form),
        )
        for place in range(len(values.rows("region_labels")))
    ]
    return scores_table(("label", "method", "regions", "SSIM", "NMSE"), table, main=None, words=2) if table else ""


def _volume(values: Values, at: str) -> Sequence[str]:
    return (
        values.file(f"{at}.file"),
        values.text(f"{at}.group"),
        values.name(f"{at}.method"),
        *(values.show(f"{at}.{key}", metric(key).form) for key in values.metrics),
        values.show(f"{at}.acceleration", ".2f") + ("×" if values.at(f"{at}.acceleration") is not None else ""),
        values.show(f"{at}.worst_slice.slice"),
        values.show(f"{at}.worst_slice.ssim", metric("ssim").form),
    )


def _groups_drawn(rows: Sequence[Mapping[str, Any]], key: str) -> str:
    drawn: dict[str, dict[str, Estimate]] = {}
    for row in rows:
        value = (row.get("mean") or {}).get(key)
        low, high = (row.get("intervals") or {}).get(key) or (None, None)
        if value is not None:
            drawn.setdefault(str(row["group"]), {})[str(row["method"])] = (value, low, high)
    if not 1 < len(drawn) <= MOST_GROUPS:
        return ""
    what = f"Mean {metric(key).name} of each group and method, with its interval"
    return figure(
        bars_with_intervals(drawn, metric(key).head, from_zero=False),
        what,
        f"{what}; the axis does not start at 0.",
        "chart",
    )


def _low_first(value: float | None) -> float:
    return float("inf") if value is None else value
