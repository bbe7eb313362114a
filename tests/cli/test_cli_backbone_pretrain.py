"""backbone tokenizer, pretrain and generate: from a text to a model that writes, and one line where it cannot work."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from language_support import some_text, tiny_language_model, tiny_tokenizer, write_jsonl

from nirvana_mri.backbone import inspect_backbone, save_backbone
from nirvana_mri.backbone.tokenizer import save_tokenizer
from nirvana_mri.backbone.variants import VARIANTS
from nirvana_mri.cli.backbone_pretrain import OptimizerName, Parallel, Precision, Variant
from nirvana_mri.language.optimizer import OPTIMIZERS
from nirvana_mri.language.pretrain import PRECISIONS
from nirvana_mri.language.processes import PARALLEL

Run = Callable[..., Any]
SMALL = ("--length", "16", "--batch-tokens", "32", "--threads", "1")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "text.jsonl", [some_text(30, n) for n in range(8)])


@pytest.fixture
def tokenizer_file(tmp_path: Path) -> Path:
    save_tokenizer(tiny_tokenizer(), tmp_path / "tokenizer.json")
    return tmp_path / "tokenizer.json"


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    save_backbone(tiny_language_model(), tmp_path / "tiny.safetensors", {}, tiny_tokenizer())
    return tmp_path / "tiny.safetensors"


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def refused(run: Run, code: int, *words: Any) -> str:
    """The one line of a refusal with this exit code."""
    done = run("backbone", *words)
    assert done.exit_code == code, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.output
    return done.stderr


def test_the_options_name_what_there_is() -> None:
    assert [each.value for each in Variant] == list(VARIANTS)
    assert [each.value for each in OptimizerName] == list(OPTIMIZERS)
    assert [each.value for each in Precision] == list(PRECISIONS)
    assert [each.value for each in Parallel] == list(PARALLEL)


def test_from_text_to_a_model_that_goes_on(run: Run, text: Path, model_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    begin = ("pretrain", "--data", text, "--out", out, "--from", model_file, *SMALL, "--held-out", text)
    done = run("backbone", *begin, "--max-steps", "2")
    assert done.exit_code == 0, done.stderr
    assert "held out" in done.stdout
    assert {"step", "tokens", "loss"} <= rows(out)[0].keys()
    assert inspect_backbone(out / "last.safetensors").source["step"] == 2
    assert run("backbone", *begin, "--max-steps", "4", "--resume").exit_code == 0
    assert [int(row["tokens"]) for row in rows(out)] == [32, 64, 96, 128]
    written = run("backbone", "generate", "The coil", "--model", out / "last.safetensors", "--tokens", "9")
    assert written.exit_code == 0
    assert written.stdout.startswith("The coil")


@pytest.mark.parametrize("variant", ["delta", "nirvana-rope"])
def test_a_preset_takes_the_vocabulary_of_its_tokenizer(
    run: Run, text: Path, tokenizer_file: Path, tmp_path: Path, variant: str
) -> None:
    out = tmp_path / "run"
    words = ("--data", text, "--out", out, "--tokenizer", tokenizer_file, *SMALL, "--max-steps", "1")
    done = run("backbone", "pretrain", *words, "--variant", variant, "--init-range", "0.01", "--warm-up", "0")
    assert done.exit_code == 0, done.stderr
    config = inspect_backbone(out / "last.safetensors").config
    assert (config.vocab_size, config.initializer_range) == (tiny_tokenizer().vocab_size, 0.01)


def test_a_tokenizer_is_learned(run: Run, text: Path, tmp_path: Path) -> None:
    done = run("backbone", "tokenizer", "--data", text, "-o", tmp_path / "made.json", "--vocab-size", "300")
    assert done.exit_code == 0
    assert "300 tokens" in done.stdout


def test_samples_are_repeatable_and_differ(run: Run, model_file: Path) -> None:
    words = ("backbone", "generate", "A", "--model", model_file, "--samples", "2", "--tokens", "12", "--seed", "4")
    first, again = run(*words), run(*words)
    assert first.stdout == again.stdout
    one, two = first.stdout.split("--- 2\n")
    assert one.removeprefix("--- 1\n") != two


def test_what_cannot_work_is_one_line(
    run: Run, text: Path, model_file: Path, tokenizer_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    base = ("pretrain", "--out", out, *SMALL, "--max-steps", "1")
    binary, empty = tmp_path / "a.txt", tmp_path / "b.txt"
    binary.write_bytes(b"\x89PNG\r\n\x1a\n\x00\xff")
    empty.write_bytes(b"")
    assert "binary file" in refused(run, 1, *base, "--from", model_file, "--data", binary)
    assert "empty" in refused(run, 1, *base, "--from", model_file, "--data", empty)
    assert "no such file" in refused(run, 2, *base, "--from", model_file, "--data", tmp_path / "none")
    other = tmp_path / "other.json"
    save_tokenizer(tiny_tokenizer(310), other)
    assert "does not match" in refused(run, 2, *base, "--from", model_file, "--tokenizer", other, "--data", text)
    assert "published tokenizer" in refused(run, 2, *base, "--preset", "base", "--data", text)
    assert "draws new weights" in refused(run, 2, *base, "--from", model_file, "--variant", "delta", "--data", text)
    assert "is for new weights" in refused(run, 2, *base, "--from", model_file, "--init-range", "1", "--data", text)
    assert not out.exists()
    assert run("backbone", *base, "--from", model_file, "--data", text).exit_code == 0
    assert "holds a run already" in refused(run, 2, *base, "--from", model_file, "--data", text)
    another = ("--from", model_file, "--data", text, "--resume", "--seed", "1")
    assert "begun with seed 0, now it is 1" in refused(run, 1, *base, *another)
    assert "expected 1 or more" in refused(run, 2, "generate", "A", "--model", model_file, "--tokens", "0")
    assert "at least 259" in refused(run, 2, "tokenizer", "--data", text, "-o", tmp_path / "t", "--vocab-size", "9")


def test_the_shipped_backbone_is_described_by_its_name(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("backbone", "info", "nano")
    assert done.exit_code == 0, done.stderr
    assert "verified" in done.stdout
    assert "8,192 tokens, sha256" in done.stdout
