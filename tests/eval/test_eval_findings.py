"""Scores of draft findings: what perfect, empty, denying and moved findings get."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nirvana_mri.errors import DataError
from nirvana_mri.eval.findings import LEAST_OVERLAP, Case, iou, score_findings
from nirvana_mri.eval.findings_baselines import chance, majority
from nirvana_mri.eval.findings_text import text_scores, words_of_findings
from nirvana_mri.findings.finding import Finding
from nirvana_mri.findings.statement import Cells, Statement
from nirvana_mri.findings.vocabulary import vocabulary
from nirvana_mri.language.protocol import wilson

LABELS = ("bright lesion", "dark lesion")


def found(label: str, slice_: int, box: tuple[int, int, int, int], negated: bool = False) -> Finding:
    return Finding(label, "inside the object", (slice_,), box, negated, 0.5)


BOXES = st.tuples(st.integers(0, 200), st.integers(0, 200), st.integers(1, 60), st.integers(1, 60))
FINDINGS = st.builds(found, st.sampled_from(LABELS), st.integers(0, 2), BOXES, st.booleans())
SETS = st.lists(FINDINGS, max_size=6).map(tuple)


def case(patient: str, said: tuple[Finding, ...], truth: tuple[Finding, ...]) -> Case:
    return Case(patient, said, truth)


@given(st.lists(SETS, min_size=1, max_size=4))
def test_the_truth_is_scored_as_right(truths: list[tuple[Finding, ...]]) -> None:
    scored = score_findings([case(str(n), truth, truth) for n, truth in enumerate(truths)])
    for kind in ("located", "named", "denied"):
        assert all(scored[kind][name]["value"] in (None, 1.0) for name in ("precision", "recall", "f1"))
    assert scored["iou"] in (None, 1.0)
    assert scored["false_positives"]["wrong"] == 0
    if any(not each.negated for truth in truths for each in truth):
        assert scored["located"]["f1"] == {"value": 1.0, "interval": [1.0, 1.0] if len(truths) > 1 else None}


@given(st.lists(st.tuples(SETS, SETS), min_size=1, max_size=4), st.randoms())
def test_order_changes_nothing_and_shares_are_shares(pairs, random) -> None:
    cases = [case(str(n % 2), *pair) for n, pair in enumerate(pairs)]
    scored = score_findings(cases)
    mixed = [
        replace(each, found=tuple(random.sample(each.found, len(each.found))), truth=tuple(reversed(each.truth)))
        for each in cases
    ]
    random.shuffle(mixed)
    assert score_findings(mixed) == scored
    for kind in ("located", "named", "denied"):
        counts = scored[kind]
        assert counts["right"] <= min(counts["said"], counts["true"])
        for name in ("precision", "recall", "f1"):
            value, ends = counts[name]["value"], counts[name]["interval"]
            assert value is None or 0 <= value <= 1
            assert ends is None or value is None or ends[0] - 1e-9 <= value <= ends[1] + 1e-9
    assert scored["located"]["right"] <= scored["named"]["right"]


def test_saying_nothing_finds_nothing() -> None:
    scored = score_findings([case("a", (), (found("dark lesion", 0, (1, 1, 9, 9)),))])
    assert (scored["located"]["precision"]["value"], scored["located"]["recall"]["value"]) == (None, 0.0)
    assert scored["located"]["f1"]["value"] == 0.0
    assert scored["false_positives"] == {"share": None, "interval": [0.0, 1.0], "scans": 0, "wrong": 0}
    with pytest.raises(DataError, match="no scans"):
        score_findings([])


def test_denying_what_is_there_and_finding_what_is_not() -> None:
    there = found("dark lesion", 0, (10, 10, 20, 20))
    denial = found("dark lesion", 0, (0, 0, 64, 64), negated=True)
    scored = score_findings([case("a", (denial,), (there,)), case("b", (there,), (denial,))])
    assert scored["denied_though_there"] == 1
    assert scored["denied"]["f1"]["value"] == scored["located"]["f1"]["value"] == 0.0
    assert scored["false_positives"] == {"share": 1.0, "interval": list(wilson(1, 1)), "scans": 1, "wrong": 1}


@pytest.mark.parametrize("change", [{"label": "bright lesion"}, {"slices": (1,)}, {"box": (40, 10, 20, 20)}])
def test_another_label_slice_or_place_is_no_match(change) -> None:
    there = found("dark lesion", 0, (10, 10, 20, 20))
    scored = score_findings([case("a", (replace(there, **change),), (there,))])
    assert scored["located"]["right"] == 0
    assert scored["named"]["right"] == ("box" in change)


@given(BOXES, st.integers(0, 60))
def test_a_moved_boxs_overlap_is_that_of_intervals(box: tuple[int, int, int, int], by: int) -> None:
    x, y, width, height = box
    left = max(0, width - by)
    expected = left / (2 * width - left)
    assert iou(box, (x + by, y, width, height)) == pytest.approx(expected)
    assert iou((x, y + 60, width, height), box) == 0
    scored = score_findings(
        [case("a", (found("dark lesion", 0, (x + by, y, width, height)),), (found("dark lesion", 0, box),))]
    )
    assert scored["located"]["right"] == (expected >= LEAST_OVERLAP)


def test_as_many_pairs_as_possible_are_matched() -> None:
    """Greedy by overlap would take the middle box for the left one and leave the right one alone."""
    left, middle, right = ((x, 0, 10, 10) for x in (0, 4, 11))
    said = (found("dark lesion", 0, middle), found("dark lesion", 0, (-6, 0, 10, 10)))
    truth = (found("dark lesion", 0, left), found("dark lesion", 0, right))
    assert iou(middle, left) > iou(middle, right) > LEAST_OVERLAP
    assert score_findings([case("a", said, truth)])["located"]["right"] == 2


def test_baselines_say_what_training_says() -> None:
    spoken = vocabulary("simulated")
    lesion = Statement("dark lesion", Cells(1, 2, 3, 4))
    training = [spoken.answer([lesion])] * 3 + [spoken.answer([])] * 2
    assert majority(training, spoken) == training[0]
    assert majority(training[2:], spoken) == training[-1]
    drawn = chance(training, 2000)
    assert drawn == chance(training, 2000) != chance(training, 2000, seed=1)
    assert np.mean([each == training[0] for each in drawn]) == pytest.approx(0.6, abs=0.05)


def test_texts_are_compared_by_their_libraries() -> None:
    pytest.importorskip("sacrebleu")
    pytest.importorskip("rouge_score")
    there = found("dark lesion", 0, (8, 8, 12, 12))
    text = words_of_findings([found("bright lesion", 0, (0, 0, 64, 64), True), there], (64, 64))
    assert text == "no bright lesion. dark lesion, rows 3 to 5, columns 3 to 5."
    same = text_scores([text], [text])
    assert (same["bleu"], same["rouge_l"]) == (pytest.approx(100.0), 1.0)
    other = text_scores(["no bright lesion. no dark lesion."], [text])
    assert 0 <= other["bleu"] < 50
    assert 0 < other["rouge_l"] < 1
    with pytest.raises(DataError, match="expected as many"):
        text_scores([text], [])
