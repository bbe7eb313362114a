"""Why two scores differ: planted causes are named, in the order of their weight."""

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nirvana_mri.errors import DataError, ProtocolError
from nirvana_mri.eval.explain import explain, require_comparable
from nirvana_mri.eval.protocol import FASTMRI, FOREGROUND, PER_SLICE
from nirvana_mri.eval.scores_file import read_scores


def scores(ssim=0.9, method="sense", count=6):
    rows = [
        {"file": f"{n}.h5", "method": method, "ssim": ssim + 0.01 * n + 0.001 * n * n, "psnr": 30.0, "nmse": 0.01,
         "acceleration": 4.0, "patient": f"p{n}"}
        for n in range(count)
    ]  # fmt: skip
    return {
        "protocol": FASTMRI.as_dict(),
        "volumes": rows,
        "sampling": {"mask": "random", "acceleration": 4, "mask_hash": "abc"},
        "by_method": [{"method": method, "model": None, "model_sha256": None}],
        "toolkit_version": "0.1.0",
        "missing": [],
    }


@pytest.fixture
def told(tmp_path):
    """What is said of two sets of scores."""

    def explained(first, second):
        for name, content in (("a.json", first), ("b.json", second)):
            (tmp_path / name).write_text(json.dumps(content))
        return explain(read_scores(tmp_path / "a.json"), read_scores(tmp_path / "b.json"))

    return explained


@pytest.mark.parametrize(("other", "field"), [(FOREGROUND, "mask"), (PER_SLICE, "data_range")])
def test_other_protocols_are_not_compared(told, other, field):
    sentences = told(scores(), {**scores(0.8), "protocol": other.as_dict()})
    assert sentences[1].startswith("not comparable: the protocols differ")
    assert f"{field}: " in sentences[1]
    assert not any("minus" in sentence for sentence in sentences)


def test_a_data_range_of_ones_own_is_named_whatever_the_hash_says(told, tmp_path):
    """The crime: data_range=1 on raw-scale data gives an SSIM of 1, here under a copied name and hash."""
    crime = {**scores(0.99), "protocol": {**FASTMRI.as_dict(), "data_range": "1"}}
    assert "data_range: maximum of the cropped target" in told(scores(), crime)[1]
    with pytest.raises(ProtocolError, match="data_range"):
        require_comparable(read_scores(tmp_path / "a.json"), read_scores(tmp_path / "b.json"))
    forged = {**scores(), "protocol": {**FASTMRI.as_dict(), "hash": "0" * 12}}
    assert "hashes differ" in told(scores(), forged)[1]


def test_the_difference_is_the_methods_where_nothing_else_differs(told):
    other = scores(0.85, "zero-filled")
    sentences = told(scores(), other)
    assert any("the difference is the method's" in sentence for sentence in sentences)
    assert any("methods differ: sense and zero-filled" in sentence for sentence in sentences)
    assert any("ssim: +0.05 (95 % +0.05 to +0.05)" in sentence for sentence in sentences)
    assert any("6 volumes of 6 patients" in sentence for sentence in sentences)


def plant(change):
    other = copy.deepcopy(scores())
    change(other)
    return other


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s["sampling"].update(acceleration=8), "sampling differs (acceleration: 4 and 8)"),
        (lambda s: s.update(sampling=None), "sampling unknown: b.json"),
        (lambda s: s["volumes"][0].update(acceleration=8.0), "accelerated differently (0.h5: 4.0 and 8.0 times)"),
        (lambda s: s["volumes"].pop(), "1 volumes are in a.json alone: 5.h5"),
        (lambda s: (s["volumes"].pop(), s.update(missing=["5.h5"])), "which lists it as missing"),
        (lambda s: s["volumes"][2].update(slices=[1, 2]), "scored on other slices: 2.h5"),
        (lambda s: s["volumes"][2].update(patient="p1"), "6 and 5 patients"),
        (
            lambda s: s["by_method"][0].update(model="x", model_sha256="f" * 64),
            "models differ: no model and x (sha256 ff",
        ),
        (lambda s: s.update(toolkit_version="0.2.0"), "versions of the toolkit: 0.1.0 and 0.2.0"),
        (lambda s: None, "the making of the predictions"),
    ],
)
def test_each_planted_cause_is_named(told, change, says):
    sentences = told(scores(), plant(change))
    assert any(says in sentence for sentence in sentences), sentences


def test_causes_come_before_the_model(told):
    other = scores(0.8, "nirvana")
    other["sampling"]["acceleration"] = 8
    sentences = told(scores(), other)
    order = [next(i for i, s in enumerate(sentences) if words in s) for words in ("sampling", "methods differ")]
    assert order == sorted(order)
    assert not any("is the method's" in sentence for sentence in sentences)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "3",
        "{}",
        "[" * 100000,
        "\udcff",
        '{"protocol": {}, "volumes": []}',
        '{"protocol": {}, "volumes": [3]}',
        '{"protocol": {}, "volumes": [{"file": "a", "ssim": NaN}]}',
        '{"protocol": {}, "volumes": [{"file": 3, "ssim": 1}]}',
        '{"protocol": {}, "volumes": [{"file": "a", "ssim": 1}, {"file": "a", "ssim": 1}]}',
    ],
)
def test_other_files_are_refused_in_a_line(tmp_path, text):
    path = tmp_path / "scores.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=r"scores\.json: .*nirvana-mri evaluate") as problem:
        read_scores(path)
    assert "\n" not in str(problem.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=15)
@given(key=st.sampled_from(sorted(scores())), value=JSON, field=st.sampled_from(["ssim", "psnr", "slices", "patient"]))
def test_strange_values_are_explained_or_refused(tmp_path_factory, key, value, field):
    folder = tmp_path_factory.mktemp("json")
    strange = scores(count=2)
    strange[key] = value
    other = scores(count=2)
    other["volumes"][0][field] = value
    for name, content in (("a.json", strange), ("b.json", other)):
        (folder / name).write_text(json.dumps(content))
    try:
        sentences = explain(read_scores(folder / "a.json"), read_scores(folder / "b.json"))
    except DataError:
        return
    assert all(isinstance(sentence, str) for sentence in sentences)
