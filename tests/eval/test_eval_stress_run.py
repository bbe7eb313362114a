"""A whole stress run on a tiny model: figures, criteria that stand first, verdicts that follow from them, the card."""

import json
import re
from typing import Any

import pytest
from tiny import tiny_model, tiny_scan

from nirvana_mri.errors import ScanError, UsageError
from nirvana_mri.eval.stress.card import card_table, verdict, worst
from nirvana_mri.eval.stress.case import Asked
from nirvana_mri.eval.stress.run import Stressed, run_stress
from nirvana_mri.eval.stress.table import STRESSES, chosen
from nirvana_mri.recon.checkpoint import LoadedModel

ASKED = Asked(center_fraction=0.16)
CHEAP = "noise,shift,coil-drop,wrong-mask"


def loaded() -> LoadedModel:
    return LoadedModel(tiny_model(), "tiny", "ab" * 32, "cd" * 32, {}, {})


def run(only: str = CHEAP, slices: tuple[int, ...] = (1,), **options: Any) -> Stressed:
    scan = tiny_scan(32, 32, slices=2)
    return run_stress(loaded(), [(scan, slices)], ASKED, chosen(only), quick=True, command="stress", **options)


@pytest.fixture(scope="module")
def everything() -> Stressed:
    scan = tiny_scan(32, 32)
    return run_stress(loaded(), [(scan, [0])], ASKED, quick=True, command="nirvana-mri stress --quick")


def test_every_stress_is_measured_and_judged(everything: Stressed) -> None:
    result = everything.result
    assert result["schema"] == "nirvana-mri stress 1"
    assert {test["name"] for test in result["tests"]} == set(STRESSES)
    for test in result["tests"]:
        assert isinstance(test["passed"], bool)
        assert test["criterion"] == result["stresses"][test["name"]]["criterion"]
        assert test["passed"] == (test["margin"] >= 0) if test["margin"] is not None else True
        assert {"nirvana", "sense"} <= set(test["values"])
    passed = sum(test["passed"] for test in result["tests"])
    assert result["summary"] == {
        "passed": passed,
        "failed": len(result["tests"]) - passed,
        "total": len(result["tests"]),
    }
    assert result["notice"] == "not for clinical use"
    json.dumps(result, allow_nan=False)


def test_changes_are_from_the_undisturbed_scan(everything: Stressed) -> None:
    result = everything.result
    for test in result["tests"]:
        for method, change in test["change"].items():
            before = result["baseline"][method]["ssim"]
            assert change["ssim"] == pytest.approx(test["values"][method]["ssim"] - before, abs=1e-9)


def test_the_verdict_follows_from_the_words(everything: Stressed) -> None:
    """Worked out anew from the figures and the limits that the JSON states."""
    for test in everything.result["tests"]:
        values, change, limits = test["values"], test["change"], test["limits"]
        if test["name"] in ("noise", "coil-drop", "motion", "rotation", "bias"):
            lost = {name: -change[name]["ssim"] for name in ("nirvana", "sense")}
            assert test["passed"] == (lost["nirvana"] <= lost["sense"] + limits["slack"])
        elif test["name"] == "adversarial":
            allowed = limits["times"] * values["sense"]["amplification"]
            assert test["passed"] == (values["nirvana"]["amplification"] <= allowed)
        elif test["name"] == "more-samples":
            assert test["passed"] == (change["nirvana"]["ssim"] >= -limits["fall"])


def test_the_same_seed_gives_the_same_figures() -> None:
    one, same, other = (run("noise,bias", seed=seed) for seed in (3, 3, 4))
    assert one.result["tests"] == same.result["tests"]
    assert one.result["tests"] != other.result["tests"]


def test_a_stress_alone_gives_what_it_gives_among_others(everything: Stressed) -> None:
    scan = tiny_scan(32, 32)
    alone = run_stress(loaded(), [(scan, [0])], ASKED, chosen("bias"), quick=True)
    assert alone.result["tests"] == [test for test in everything.result["tests"] if test["name"] == "bias"]


def test_figures_are_means_over_slices() -> None:
    both, first, second = (run("bias", slices) for slices in ((0, 1), (0,), (1,)))
    figures = [each.result["tests"][0]["values"]["sense"]["psnr"] for each in (both, first, second)]
    assert figures[0] == pytest.approx((figures[1] + figures[2]) / 2)
    assert both.result["slices"] == {"head": [0, 1]}
    assert both.shown["bias"].slice in (0, 1)


def test_progress_is_told_of_each_level() -> None:
    told: list[tuple[int, int, str]] = []
    run("noise,bias", progress=lambda *words: told.append(words))
    assert told == [(1, 3, "noise"), (2, 3, "noise"), (3, 3, "bias")]


def test_what_cannot_be_tried_is_named() -> None:
    scan = tiny_scan(32, 32, coils=1)
    result = run_stress(loaded(), [(scan, [0])], ASKED, chosen("coil-drop,bias"), quick=True).result
    assert [skip["name"] for skip in result["skipped"]] == ["coil-drop", "coil-drop"]
    assert [test["name"] for test in result["tests"]] == ["bias"]
    assert "not tried" in card_table(result)


def test_a_mask_without_a_centre_is_an_error_not_a_result() -> None:
    with pytest.raises(ScanError, match="centre of k-space"):
        run_stress(loaded(), [(tiny_scan(32, 32), [0])], Asked(4.0, "magic", 0.001), chosen("bias"), quick=True)
    with pytest.raises(UsageError, match="no slices"):
        run_stress(loaded(), [], ASKED)


def test_two_phase_encodings_are_taken_too() -> None:
    asked = Asked(3.0, "poisson", 0.2)
    result = run_stress(loaded(), [(tiny_scan(32, 32), [0])], asked, chosen(f"{CHEAP},more-samples"), quick=True).result
    assert len(result["tests"]) == 11


def test_the_card_has_a_row_for_each_stress_and_its_worst_level(everything: Stressed) -> None:
    lines = card_table(everything.result).splitlines()
    rows = [line for line in lines if line.startswith("| ")][2:]
    assert len(rows) == len(STRESSES)
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    noise = [test for test in everything.result["tests"] if test["name"] == "noise"]
    assert verdict(noise) in rows[0]
    assert f"{worst(noise)['change']['nirvana']['ssim']:+.4f}" in rows[0]
    summary = everything.result["summary"]
    assert f"{summary['passed']} of {summary['total']} levels passed" in lines[-1]
    assert re.search(r"`nirvana-mri stress --quick`$", lines[-1])


def test_a_failure_is_said() -> None:
    test = {"passed": False, "margin": -1.0}
    assert verdict([test, {"passed": True, "margin": 1.0}]) == "**fail** 1/2"
    assert worst([{"passed": True, "margin": 1.0}, test]) is test
