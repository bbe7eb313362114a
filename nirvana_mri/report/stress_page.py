"""The page of a stress test: what passed first, then each stress with curves, its worst pictures, and its words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from matplotlib.figure import Figure

from nirvana_mri.eval.stress.card import COLUMNS, card_table, figure, level_words, verdict, worst
from nirvana_mri.eval.stress.run import Shown, Stressed
from nirvana_mri.figures import Panel, comparison
from nirvana_mri.report import html
from nirvana_mri.report.stress_curves import curves, detectability

METHODS = {"nirvana": "the model", "sense": "CG-SENSE", "zero-filled": "zero-filled"}
SHOWN = ("zero-filled", "sense", "nirvana")
ZOOM = 40  # pixels a side about a lesion
PASSED, FAILED = "✓ pass", "✗ fail"
FIGURES = {
    "ssim": "SSIM",
    "psnr": "PSNR [dB]",
    "nmse": "NMSE",
    "equivariance_error": "equivariance error",
    "amplification": "amplification",
    "noise_amplification": "of noise",
    "noise_ssim": "SSIM, noise",
    "transferred_amplification": "of the model's",
    "transferred_ssim": "SSIM, the model's",
    "contrast_kept": "contrast kept",
    "detectability": "detection index d′",
}
SIMULATED = (
    "The k-space was simulated from pictures. Scores on such data can be too good (Shimron et al. 2022, PNAS "
    "119:e2117203119), and what passes here may fail on measured k-space."
)


def make_stress_page(stressed: Stressed) -> str:
    """HTML of a result, whole in itself; every figure names its field of the JSON."""
    result = stressed.result
    sections = (_section(name, stress, stressed) for name, stress in result["stresses"].items())
    return html.document(
        f"Stress test of {result['model']}",
        f"{', '.join(result['scans'])}: what a scanner may do to the data, and how the model stands it beside CG-SENSE",
        (
            html.section("Passed and failed", _counts(result), _summary(result), _how_to_read(result)),
            html.section("Undisturbed", _baseline(result)),
            *sections,
            html.section("How it was measured", _facts(result), _skipped(result)),
            html.section("For the model card", f"<pre>{escape(card_table(result))}</pre>"),
        ),
    )


def _counts(result: Mapping[str, Any]) -> str:
    counts = (html.number(str(result["summary"][key]), f"summary.{key}") for key in ("passed", "total", "failed"))
    return "<p><strong>{} of {} levels passed, {} failed.</strong></p>".format(*counts)


def _how_to_read(result: Mapping[str, Any]) -> str:
    words = html.paragraph(
        "Each row is the level that is furthest beyond its limit or nearest to it. The limits were set before anything "
        "was measured; a model may fail, and a pass says no more than its criterion does.",
        "soft",
    )
    return words + (html.paragraph(SIMULATED, "soft") if result["simulated"] else "")


def _tests(name: str, result: Mapping[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """The tests of a stress with their places in the JSON."""
    return [(place, test) for place, test in enumerate(result["tests"]) if test["name"] == name]


def _summary(result: Mapping[str, Any]) -> str:
    rows = []
    for name, stress in result["stresses"].items():
        tests = _tests(name, result)
        if not tests:
            continue
        lowest = worst([test for _, test in tests])
        place = next(place for place, test in tests if test is lowest)
        where, key = stress["shown"].split(".")
        passed = verdict([test for _, test in tests]).replace("**", "")
        figures = [
            html.number(text, f"tests.{place}.{where}.{method}.{key}") if text[-1].isdigit() else text
            for method, text in ((each, figure(lowest, stress, each)) for each in ("nirvana", "sense"))
        ]
        mark = "✓ " if passed.startswith("pass") else "✗ "
        row = (stress["title"], mark + passed, level_words(lowest), stress["shown_words"])
        rows.append((*(escape(text) for text in row), *figures))
    head = (*COLUMNS[:3], "figure", "the model", "CG-SENSE")
    return html.scores_table(head, rows, main=None)


def _baseline(result: Mapping[str, Any]) -> str:
    rows = [
        (escape(METHODS[method]), *_cells(figures, f"baseline.{method}", ("ssim", "psnr", "nmse")))
        for method, figures in result["baseline"].items()
    ]
    return html.scores_table(("method", "SSIM", "PSNR [dB]", "NMSE"), rows)


def _section(name: str, stress: Mapping[str, Any], stressed: Stressed) -> str:
    tests = _tests(name, stressed.result)
    if not tests:
        return ""
    return html.section(
        stress["title"],
        html.paragraph(stress["about"]),
        html.paragraph(f"Passed where {stress['criterion']}."),
        *_drawings(name, stress, stressed),
        _table(tests),
        html.paragraph(f"Source: {stress['source']}.", "soft"),
    )


def _drawings(name: str, stress: Mapping[str, Any], stressed: Stressed) -> Iterator[str]:
    tests = [test for _, test in _tests(name, stressed.result)]
    title = stress["title"]
    if "detectability" in tests[0]["values"].get("nirvana", {}):
        caption = (
            "Contrast kept (left) and detection index d′ (right) over the lesion's contrast; the line at d′ = 1 is "
            "where the two answers begin to be told apart."
        )
        yield html.figure(detectability(tests), f"{title}: curves", caption)
    elif len(tests) > 1 and not isinstance(tests[0]["level"], str):
        drawn = curves(tests, stress, stressed.result["baseline"])
        words = "SSIM" if stress["shown"].endswith(".ssim") else f"SSIM and {stress['shown_words']}"
        yield html.figure(drawn, f"{title}: curves", f"{words} by level [{stress['unit'].strip('()')}].")
    shown = stressed.shown.get(name)
    if shown is not None:
        test = stressed.result["tests"][shown.test]
        zoom = "row" in test["details"]
        what = f"{title}, {level_words(test)}: slice {shown.slice} of {shown.scan}, nearest to the limit"
        caption = f"{what}. Scores are of the whole picture." if zoom else f"{what}."
        yield html.figure(_pictures(shown, zoom), what, caption)


def _pictures(shown: Shown, zoom: bool) -> Figure:
    measured = shown.measured
    cut = _about(measured.details, measured.target.shape) if zoom else (slice(None), slice(None))
    panels = [
        Panel(METHODS[name], measured.pictures[name][cut], _caption(measured.values[name]))
        for name in SHOWN
        if name in measured.pictures
    ]
    return comparison(panels, measured.target[cut])


def _about(details: Mapping[str, float], shape: tuple[int, ...]) -> tuple[slice, slice]:
    """A window about a lesion, inside the picture."""
    sides = [min(ZOOM, n) for n in shape]
    places = (int(details["row"]), int(details["column"]))
    starts = [min(max(at - side // 2, 0), n - side) for at, side, n in zip(places, sides, shape, strict=True)]
    return slice(starts[0], starts[0] + sides[0]), slice(starts[1], starts[1] + sides[1])


def _caption(figures: Mapping[str, Any]) -> str:
    psnr = "" if figures["psnr"] is None else f", {figures['psnr']:.1f} dB"
    return f"SSIM {figures['ssim']:.3f}{psnr}"


def _table(tests: list[tuple[int, dict[str, Any]]]) -> str:
    """Every level by every method."""
    keys = [key for key in FIGURES if any(key in row for _, test in tests for row in test["values"].values())]
    keys = [key for key in keys if key != "nmse" or len(keys) == 3]  # of wide tables the JSON has the rest
    rows = []
    for place, test in tests:
        for method, figures in test["values"].items():
            first = method == "nirvana"
            passed = (PASSED if test["passed"] else FAILED) if first else ""
            head = (level_words(test) if first else "", METHODS[method], passed)
            if "refused" in figures:
                cells = ["refused", *[""] * (len(keys) - 1)]
            else:
                cells = _cells(figures, f"tests.{place}.values.{method}", keys)
            rows.append((*(escape(text) for text in head), *cells))
    return html.scores_table(("level", "method", "", *(FIGURES[key] for key in keys)), rows, main=None)


def _cells(figures: Mapping[str, Any], field: str, keys: Any) -> list[str]:
    """Figures as cells that name their fields; empty where there is none."""
    return [
        "" if figures.get(key) is None else html.number(_digits(key, figures[key]), f"{field}.{key}") for key in keys
    ]


def _digits(key: str, value: float) -> str:
    if key == "psnr" or "amplification" in key or key == "detectability":
        return f"{value:.2f}"
    return f"{value:.5f}" if key == "nmse" else f"{value:.4f}"


def _facts(result: Mapping[str, Any]) -> str:
    sampling = result["sampling"]
    slices = "; ".join(f"{name}: {', '.join(map(str, numbers))}" for name, numbers in result["slices"].items())
    facts = [
        ("model", f"{result['model']} (sha256 {result['model_sha256']})"),
        ("slices", slices),
        ("sampling", f"{sampling['mask']}, {sampling['achieved_acceleration']:.2f}x, seed {sampling['seed']}"),
        ("seed", str(result["seed"])),
        ("protocol", f"{result['protocol']['name']} {result['protocol']['hash']}"),
        ("levels", "a few of each (--quick)" if result["quick"] else "all"),
        ("command", result["command"]),
        ("took", f"{result['seconds']:.0f} s"),
        ("toolkit", f"nirvana-mri {result['toolkit_version']}"),
    ]
    return html.facts_table(facts) + html.details("protocol", result["protocol"])


def _skipped(result: Mapping[str, Any]) -> str:
    items = [f"{skip['name']} at {skip['level']}: {skip['reason']}" for skip in result["skipped"]]
    return html.paragraph(f"Not tried: {'; '.join(items)}.", "soft") if items else ""
