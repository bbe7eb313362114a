"""nirvana-mri evaluate, simulate, report, demo, train: each parses, calls one function, shows the result."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from tiny import head

import nirvana_mri as nm
from nirvana_mri.io.save import load_volume
from nirvana_mri.train.config import TrainConfig

Run = Callable[..., Any]
FASTER = ("--method", "sense", "--accelerate", "4", "--center-fraction", "0.16")


@pytest.fixture(scope="module")
def recon_file(run: Run, scan_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recon") / "head.h5"
    assert run("reconstruct", scan_file, "-o", path, *FASTER).exit_code == 0
    return path


def test_evaluate_writes_the_contract(run: Run, scan_file: Path, recon_file: Path, tmp_path: Path) -> None:
    done = run("evaluate", recon_file, "--target", scan_file, "--json", tmp_path / "s.json")
    assert done.exit_code == 0
    stored = json.loads((tmp_path / "s.json").read_text())
    assert stored["protocol"]["name"] == "fastmri"
    assert {"file", "ssim", "psnr", "nmse", "acceleration", "group"} <= set(stored["volumes"][0])
    assert stored["command"] == f"nirvana-mri evaluate {recon_file.name} --target {scan_file.name} --json s.json"
    assert f"{stored['volumes'][0]['ssim']:.4f}" in done.stdout
    assert stored["volumes"][0]["acceleration"] == pytest.approx(load_volume(recon_file).mask.size / 14, rel=0.2)


def test_evaluate_of_folders_and_foreign_predictions(run: Run, scan_file: Path, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "head.h5", "w") as file:
        file["reconstruction"] = np.stack([nm.open_scan(scan_file).reference[i] for i in range(3)])
    done = run("evaluate", tmp_path, "--target", scan_file.parent, "--json", "-")
    stored = json.loads(done.stdout)
    assert stored["volumes"][0]["acceleration"] is None
    assert stored["mean"]["ssim"] == pytest.approx(1)


def test_evaluate_shows_a_mean_of_several(run: Run, scan_file: Path, recon_file: Path, tmp_path: Path) -> None:
    for folder, source in (("scans", scan_file), ("recons", recon_file)):
        (tmp_path / folder).mkdir()
        for name in ("a.h5", "b.h5"):
            (tmp_path / folder / name).write_bytes(source.read_bytes())
    done = run("evaluate", tmp_path / "recons", "--target", tmp_path / "scans")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["file", "a.h5", "b.h5", "mean", "protocol"]


def test_evaluate_refuses_what_cannot_be_compared(run: Run, scan_file: Path, recon_file: Path, tmp_path: Path) -> None:
    assert run("evaluate", tmp_path, "--target", scan_file).exit_code == 1
    done = run("evaluate", recon_file, "--target", scan_file, "--json", recon_file)
    assert done.exit_code == 2
    assert "is an input" in done.stderr
    assert load_volume(recon_file).voxels.size


def test_simulate_makes_a_scan(run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "head.npy", head(64, 56, 4))
    words = ("--coils", "3", "--noise", "0.02", "--phase", "1.0", "--seed", "5", "--slices", "1:3")
    done = run("simulate", tmp_path / "head.npy", "-o", tmp_path / "scan.h5", *words)
    assert done.exit_code == 0
    assert done.stdout == f"wrote {tmp_path / 'scan.h5'}: 2 slices, 3 coils, 64 x 56, fully sampled; simulated\n"
    scan = nm.open_scan(tmp_path / "scan.h5")
    wanted = nm.simulate(head(64, 56, 4), coils=3, noise=0.02, phase=1.0, seed=5, slices=[1, 2])
    np.testing.assert_array_equal(scan.kspace[1], wanted.kspace[1])
    assert scan.simulated


def test_simulate_refuses_what_cannot_be(run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "head.npy", -head())
    before = sorted(tmp_path.iterdir())
    picture = tmp_path / "head.npy"
    assert run("simulate", picture, "-o", tmp_path / "s.h5").exit_code == 1
    assert run("simulate", picture, "-o", picture).exit_code == 2
    assert run("simulate", picture, "-o", picture / "s.h5").exit_code == 2
    assert run("simulate", picture, "-o", tmp_path / "s.h5", "--slices", "1:9").exit_code == 2
    assert sorted(tmp_path.iterdir()) == before


def test_report_makes_one_page(run: Run, scan_file: Path, model_file: Path, tmp_path: Path) -> None:
    words = ("--model", model_file, "--accelerate", "4", "--center-fraction", "0.16")
    done = run("report", scan_file, "-o", tmp_path / "page.html", *words)
    assert done.exit_code == 0
    wrote, trust = done.stdout.splitlines()
    assert wrote == f"wrote {tmp_path / 'page.html'}: nirvana, zero-filled, sense; not for clinical use"
    assert "times the noise" in trust
    page = (tmp_path / "page.html").read_text()
    assert "not for clinical use" in page
    assert page.count("data:image/png;base64,") == 6


def test_report_refuses_other_kinds_and_bad_scans(run: Run, scan_file: Path, tmp_path: Path) -> None:
    assert run("report", scan_file, "-o", tmp_path / "page.docx", *FASTER).exit_code == 2
    (tmp_path / "bad.h5").write_text("no scan")
    assert run("report", tmp_path / "bad.h5", "-o", tmp_path / "page.html", *FASTER).exit_code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["bad.h5"]


def test_demo_leaves_what_it_says(run: Run, model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nirvana_mri.report.demo.SLICES", range(12, 13))
    out = tmp_path / "demo"
    done = run("demo", "--out", out, "--model", model_file)
    assert done.exit_code == 0
    names = {"scan.h5", "zero-filled.h5", "sense.h5", "wavelet.h5", "nirvana.h5"}
    assert {path.name for path in out.iterdir()} == names | {"scores.json", "comparison.png", "page.html"}
    stored = json.loads((out / "scores.json").read_text())
    assert {row["file"] for row in stored["volumes"]} == names - {"scan.h5"}
    for row in stored["volumes"]:
        again = run("evaluate", out / row["file"], "--target", out / "scan.h5", "--json", "-")
        assert json.loads(again.stdout)["volumes"][0]["ssim"] == row["ssim"]
    assert str(out / "comparison.png") in done.stdout
    assert "not for clinical use" in done.stdout


def test_peers_need_their_weights_and_others_none(run: Run, scan_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    words = ("reconstruct", scan_file, "-o", out, "--accelerate", "4")
    for more, says in (
        (("--method", "fastmri-varnet"), "needs its weights"),
        (("--method", "sense", "--weights", "w.pt"), "leave it out"),
        (("--method", "fastmri-unet", "--weights", tmp_path / "none.pt"), "no such file"),
    ):
        done = run(*words, *more)
        assert done.exit_code == 2
        assert says in done.stderr
        assert done.stderr.count("\n") == 1
    assert not out.exists()


def test_train_hands_its_options_on(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[TrainConfig] = []

    def train(config: TrainConfig, progress: Callable[..., None], indexing: Callable[..., None]) -> Path:
        asked.append(config)
        speed = {"slices_per_second": 3.2, "waiting": 0.4}
        progress(50, 100, {"loss": 0.5, "ssim": 0.9, "psnr": 30.0, **speed})
        return config.out / "best.safetensors"

    monkeypatch.setattr("nirvana_mri.train.loop.train", train)
    words = (
        "--stage",
        "decoder",
        "--max-steps",
        "100",
        "--lr",
        "1e-3",
        "--seed",
        "3",
        "--held-out",
        "a",
        "--held-out",
        "b",
        "--index",
        "files.json",
        "--cache",
        str(tmp_path / "cache"),
        "--skip-bad",
        "--batch",
        "4",
        "--micro",
        "2",
        "--text",
        "pairs.jsonl",
        "--annotations",
        "knee.csv",
        "--patience",
        "5",
        "--log",
        "none",
        "--precision",
        "bf16",
        "--devices",
        "2",
    )
    done = run("train", "--data", tmp_path, "--out", tmp_path / "run", "--resume", *words)
    assert done.exit_code == 0
    wanted = TrainConfig(
        tmp_path,
        tmp_path / "run",
        stage="decoder",
        max_steps=100,
        learning_rate=1e-3,
        seed=3,
        held_out=("a", "b"),
        index=Path("files.json"),
        cache=tmp_path / "cache",
        skip_bad=True,
        batch=4,
        micro=2,
        pairs=Path("pairs.jsonl"),
        annotations=Path("knee.csv"),
        patience=5,
        logs=("none",),
        precision="bf16",
        devices=2,
        resume=True,
    )
    assert asked == [wanted]
    assert "held out SSIM 0.9000, PSNR 30.00 dB (3.2 slices/s, 40% of it waiting for data)" in done.stdout
    assert "cache keeps 0 scans in 0.00 GB; they are patient data" in done.stdout
    assert "best.safetensors" in done.stdout


def test_train_defaults_are_those_of_the_configuration(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[TrainConfig] = []
    monkeypatch.setattr("nirvana_mri.train.loop.train", lambda config, *shown: asked.append(config) or config.out)
    assert run("train", "--data", tmp_path, "--out", tmp_path).exit_code == 0
    assert asked == [TrainConfig(tmp_path, tmp_path)]


@pytest.mark.parametrize("words", [("--stage", "middle"), ("--max-steps", "0"), ("--lr", "2")])
def test_train_refuses_what_cannot_work(run: Run, tmp_path: Path, words: tuple[str, ...]) -> None:
    assert run("train", "--data", tmp_path, *words).exit_code == 2


def test_train_needs_data(run: Run, tmp_path: Path) -> None:
    done = run("train", "--data", tmp_path / "none", "--out", tmp_path / "run", "--max-steps", "1")
    assert done.exit_code in (1, 2)
    assert done.stderr.count("\n") == 1
