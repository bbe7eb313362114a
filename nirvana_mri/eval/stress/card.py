"""The pass/fail table of a result, as Markdown for the model card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nirvana_mri.eval.stress.methods import NIRVANA, SENSE

COLUMNS = ("stress", "passed", "nearest to its limit", "the model", "CG-SENSE", "criterion")


def card_table(result: Mapping[str, Any]) -> str:
    """One row a stress: how many levels passed, the worst of them with the figure that tells most, the criterion."""
    rows = [COLUMNS, ("---",) * len(COLUMNS)]
    for name, stress in result["stresses"].items():
        mine = [test for test in result["tests"] if test["name"] == name]
        if not mine:
            rows.append((stress["title"], "not tried", "", "", "", stress["criterion"]))
            continue
        test = worst(mine)
        shown = stress["shown_words"]
        figures = [f"{shown} {words}" for words in (figure(test, stress, NIRVANA), figure(test, stress, SENSE))]
        rows.append((stress["title"], verdict(mine), level_words(test), *figures, stress["criterion"]))
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{table}\n\n{_how(result)}\n"


def worst(tests: list[dict[str, Any]]) -> dict[str, Any]:
    """The test that is furthest beyond its limits, or nearest to them; of refusals the first."""
    judged = [test for test in tests if test["margin"] is not None]
    return min(judged, key=lambda test: test["margin"]) if judged else tests[0]


def verdict(tests: list[dict[str, Any]]) -> str:
    """``pass 4/4`` or ``**fail** 3/4``."""
    passed = sum(test["passed"] for test in tests)
    return f"{'pass' if passed == len(tests) else '**fail**'} {passed}/{len(tests)}"


def level_words(test: Mapping[str, Any]) -> str:
    """The level with its unit."""
    level = test["level"]
    if isinstance(level, list):
        return f"{level[0]:g} px, +{100 * level[1]:g} %"
    if isinstance(level, str):
        return level
    return f"{level:g}{'' if test['unit'][:1] in ('x', '°') else ' '}{test['unit']}"


def figure(test: Mapping[str, Any], stress: Mapping[str, Any], method: str) -> str:
    """The figure that tells most of a stress, or ``refused``."""
    where, key = stress["shown"].split(".")
    value = test[where].get(method, {}).get(key)
    if value is None:
        return "refused" if "refused" in test["values"].get(method, {}) else "none"
    return f"{value:+.4f}" if where == "change" else f"{value:.4f}"


def _how(result: Mapping[str, Any]) -> str:
    summary, sampling = result["summary"], result["sampling"]
    slices = sum(len(numbers) for numbers in result["slices"].values())
    kind = "simulated k-space" if result["simulated"] else "measured k-space"
    return (
        f"{summary['passed']} of {summary['total']} levels passed. {slices} slice{'s' if slices != 1 else ''} of "
        f"{', '.join(result['scans'])} ({kind}), {sampling['mask']} {sampling['achieved_acceleration']:.2f}x, seed "
        f"{result['seed']}, protocol {result['protocol']['hash']}, sha256 {result['model_sha256'][:12]}, "
        f"nirvana-mri {result['toolkit_version']}: `{result['command']}`"
    )
