"""nirvana-mri evaluate on scans, evaluate's tables, and explain-diff."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from tiny import tiny_scan

FASTER = ("--accelerate", "4", "--center-fraction", "0.16")


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    for seed in range(3):
        tiny_scan(out=folder / f"{seed}.h5", seed=seed)
    return folder


@pytest.fixture(scope="module")
def compared(run, scans, model_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scores")
    words = ("--model", model_file, "--method", "sense", "--method", "zero-filled", *FASTER)
    done = run("evaluate", scans, *words, "--json", folder / "scores.json", "--csv", folder / "table.csv")
    assert done.exit_code == 0, done.stderr
    return folder, done


def test_methods_and_models_stand_side_by_side(compared):
    folder, done = compared
    stored = json.loads((folder / "scores.json").read_text())
    assert stored["methods"] == ["nirvana", "sense", "zero-filled"]
    assert [len(stored[key]) for key in ("volumes", "by_method", "missing", "extra")] == [9, 3, 0, 0]
    assert {tuple(row["methods"]) for row in stored["paired"]} == {("nirvana", "sense"), ("nirvana", "zero-filled")}
    assert len(stored["by_method"][0]["model_sha256"]) == 64
    assert stored["command"].startswith("nirvana-mri evaluate ")
    assert "--method sense --method zero-filled --accelerate 4 " in stored["command"]
    shown = done.stdout.splitlines()
    assert [line.split()[0] for line in shown[:4]] == ["method", "nirvana", "sense", "zero-filled"]
    assert len(shown) < 10
    assert all(f"{entry['mean']['ssim']:.4f}" in done.stdout for entry in stored["by_method"])
    assert stored["protocol"]["hash"] in shown[-1]


def test_the_table_has_a_row_per_volume_and_method(compared):
    folder, _ = compared
    stored = json.loads((folder / "scores.json").read_text())
    with (folder / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["file"], row["method"]) for row in rows] == [(v["file"], v["method"]) for v in stored["volumes"]]
    for row, volume in zip(rows, stored["volumes"], strict=True):
        assert float(row["ssim"]) == volume["ssim"]
        assert row["ms_ssim"] == ""
        assert (row["group"], row["protocol_hash"]) == (volume["group"], stored["protocol"]["hash"])


@pytest.mark.parametrize("protocol", ["fastmri-foreground", "per-slice"])
def test_protocols_are_chosen_and_never_mixed(run, scans, compared, tmp_path, protocol):
    folder, _ = compared
    words = ("--method", "zero-filled", *FASTER, "--protocol", protocol, "--json", tmp_path / "other.json")
    assert run("evaluate", scans / "0.h5", *words).exit_code == 0
    stored = json.loads((tmp_path / "other.json").read_text())
    assert stored["protocol"]["name"] == protocol
    assert stored["intervals"]["ssim"] is None
    done = run("explain-diff", folder / "scores.json", tmp_path / "other.json")
    assert done.exit_code == 0
    assert "not comparable: the protocols differ" in done.stdout


def test_explain_diff_names_the_cause(run, scans, compared, tmp_path):
    folder, _ = compared
    assert run("evaluate", scans, "--method", "sense", *FASTER, "--json", tmp_path / "s.json").exit_code == 0
    done = run("explain-diff", folder / "scores.json", tmp_path / "s.json")
    assert "the difference is the method's" in done.stdout
    assert "methods differ: nirvana and sense" in done.stdout
    eight = ("--method", "sense", "--accelerate", "8", "--center-fraction", "0.08", "--json", tmp_path / "eight.json")
    assert run("evaluate", scans, *eight).exit_code == 0
    done = run("explain-diff", tmp_path / "s.json", tmp_path / "eight.json")
    assert "the sampling differs (acceleration: 4.0 and 8.0" in done.stdout
    assert "is the method's" not in done.stdout


def test_explain_diff_refuses_what_are_no_scores(run, scans, compared, tmp_path):
    folder, _ = compared
    (tmp_path / "bad.json").write_text("{}")
    for other in (tmp_path / "bad.json", tmp_path / "none.json", scans / "0.h5"):
        done = run("explain-diff", folder / "scores.json", other)
        assert (done.exit_code, done.stderr.count("\n")) == (1, 1)


def test_boxes_are_scored_by_label(run, scans, tmp_path):
    head = "file,slice,study_level,x,y,width,height,label\n"
    (tmp_path / "knee.csv").write_text(
        head + "0,0,No,20,20,10,12,Edema\n1,0,No,20,20,10,12,Edema\n1,0,Yes,,,,,Normal\n"
    )
    words = ("--method", "zero-filled", *FASTER, "--annotations", tmp_path / "knee.csv", "--json", tmp_path / "s.json")
    # pictures are 64x56: rows 4 to 60 are compared
    done = run("evaluate", scans, *words)
    assert done.exit_code == 0
    stored = json.loads((tmp_path / "s.json").read_text())
    assert [(row["file"], row["label"], row["box"]) for row in stored["regions"]] == [
        ("0.h5", "Edema", [32, 20, 12, 10]),
        ("1.h5", "Edema", [32, 20, 12, 10]),
    ]
    label = stored["region_labels"][0]
    assert (label["label"], label["count"]) == ("Edema", 2)
    assert label["mean"]["nmse"] == pytest.approx(np.mean([row["nmse"] for row in stored["regions"]]))
    assert "1 labels of whole studies" in done.stderr
    (tmp_path / "knee.csv").write_text(head + "0,0,No,200,20,10,12,Edema\n")
    assert run("evaluate", scans, *words).exit_code == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--target", "T", "--method", "sense"), "--method is for scans"),
        (("--target", "T", "--accelerate", "4"), "--accelerate is for scans"),
        (("--method", "sense"), "add --accelerate 4"),
        (("--method", "fastmri-unet", *FASTER), "needs its weights"),
        (("--method", "sense", "--weights", "w.pt", *FASTER), "is for the fastmri methods"),
        (("--method", "sense", "--draws", "0", *FASTER), "draws is 0"),
        (("--model", "a/m.safetensors", "--model", "b/m.safetensors", *FASTER), "two models are called m"),
        (("--method", "sense", *FASTER, "--csv", "INPUT"), "is an input"),
    ],
)
def test_wrong_use_says_what_to_do(run, scans, words, says):
    words = [scans / "0.h5" if word == "INPUT" else scans if word == "T" else word for word in words]
    done = run("evaluate", scans / "0.h5", *words)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1), done.stderr
    assert says in done.stderr
    assert (scans / "0.h5").stat().st_size > 1000


def test_more_volumes_than_a_screen_holds_are_summed_up(run, scans, monkeypatch):
    monkeypatch.setattr("nirvana_mri.cli.evaluate_show.MOST", 2)
    monkeypatch.setattr("nirvana_mri.cli.evaluate_show.WORST", 1)
    done = run("evaluate", scans, "--method", "zero-filled", *FASTER)
    assert "… the 1 worst of 3" in done.stdout
    assert "95 %" in done.stdout


def test_the_page_shows_each_worst_slice_by_every_method(run, scans, tmp_path):
    words = ("--method", "sense", "--method", "zero-filled", *FASTER)
    done = run("evaluate", scans, *words, "--json", tmp_path / "s.json", "--html", tmp_path / "page.html")
    assert done.exit_code == 0, done.stderr
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count('<article class="case">') == 3
    assert page.count("zero-filled, zoom") == 3
    assert done.stdout.count("\n") < 10


def test_the_page_of_predictions_reads_what_is_shown(run, scans, tmp_path):
    for method in ("sense", "zero-filled"):
        assert run("reconstruct", scans, "-o", tmp_path / method, "--method", method, *FASTER).exit_code == 0
    words = (tmp_path / "sense", tmp_path / "zero-filled", "--target", scans, "--html", tmp_path / "page.html")
    assert run("evaluate", *words).exit_code == 0
    assert (tmp_path / "page.html").read_text(encoding="utf-8").count('<article class="case">') == 3
    words = (tmp_path / "sense" / "0.h5", "--target", scans / "0.h5", "--html", tmp_path / "one.html")
    assert run("evaluate", *words).exit_code == 0
    assert "sense, zoom" in (tmp_path / "one.html").read_text(encoding="utf-8")
    done = run("evaluate", *words[:3], "--html", tmp_path / "one.txt")
    assert done.exit_code == 2
    assert "a page is .html" in done.stderr
