"""nirvana-mri backbone eval: what it writes, and one line for what cannot be scored."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from language_support import some_text, tiny_language_model, tiny_tokenizer, write_jsonl
from typer.testing import CliRunner

from nirvana_mri.backbone import save_backbone, sha256
from nirvana_mri.backbone.tokenizer import save_tokenizer, train_tokenizer
from nirvana_mri.cli.backbone_eval import eval_
from nirvana_mri.cli.shell import command

Eval = Callable[..., Any]
MODEL = tiny_language_model(3)


@pytest.fixture(scope="module")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    save_backbone(MODEL, path, {}, tiny_tokenizer())
    return path


@pytest.fixture
def run_eval(tiny_file: Path) -> Eval:
    """``run_eval("--task", "niah")`` on the tiny model: exit_code, stdout, stderr; a bug's own exception is raised."""
    app = typer.Typer()
    app.command("eval")(command(eval_))

    def invoke(*words: Any) -> Any:
        chosen = [] if "--model" in words else ["--model", tiny_file]
        done = CliRunner().invoke(app, [str(word) for word in (*chosen, *words)])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    return invoke


@pytest.fixture
def story(tmp_path: Path) -> Path:
    path = tmp_path / "story.txt"
    path.write_text(some_text(60))
    return path


def test_perplexity_of_one_text(run_eval: Eval, story: Path, tmp_path: Path) -> None:
    done = run_eval("--task", "perplexity", "--data", story, "--json", tmp_path / "out.json")
    assert (done.exit_code, done.stderr) == (0, "")
    found = json.loads((tmp_path / "out.json").read_text())
    assert {"tokens", "bytes", "loss_nats_per_token", "perplexity", "bits_per_byte"} <= found.keys()
    assert found["bytes"] == story.stat().st_size
    assert found["tokens"] == len(tiny_tokenizer().encode(story.read_text()))
    assert found["protocol"]["model_sha256"] == sha256(MODEL)
    assert "domains" not in found
    shown = " ".join(done.stdout.split())
    assert f"story {found['tokens']:,} {found['bytes']:,}" in shown
    assert f"{found['protocol']['parameters']:,} parameters (float32)" in shown
    assert found["protocol"]["hash"] in shown


def test_several_texts_are_domains(run_eval: Eval, story: Path, tmp_path: Path) -> None:
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "story.txt").write_text(some_text(20))
    write_jsonl(folder / "law.jsonl", [some_text(5), some_text(6)])
    done = run_eval("--data", story, "--data", folder, "--limit-tokens", 300, "--context", 256, "--json", "-")
    found = json.loads(done.stdout)
    name = f"{tmp_path.name}/story.txt"
    assert list(found["domains"]) == [name, "law", "more/story.txt"]
    for key in ("tokens", "bytes", "documents"):
        assert found[key] == sum(domain[key] for domain in found["domains"].values())
    assert max(domain["tokens"] for domain in found["domains"].values()) == 300
    assert found["protocol"]["rule"]["stride"] == 128


def test_last_words(run_eval: Eval, story: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text(some_text(60, 7))
    done = run_eval("--task", "lastword", "--data", story, "--data", other, "--trials", 3, "--json", "-")
    found = json.loads(done.stdout)
    assert (found["passages"], set(found["domains"])) == (6, {"story", "other"})
    assert 0 <= found["interval"][0] <= found["accuracy"] <= found["interval"][1] <= 1
    shown = run_eval("--task", "lastword", "--data", story, "--trials", 1).stdout
    assert "not the LAMBADA set" in " ".join(shown.split())


def test_needles(run_eval: Eval, tmp_path: Path) -> None:
    words = ["--task", "niah", "--length", 150, "--length", 200, "--depth", 0, "--depth", 0.5, "--trials", 1]
    done = run_eval(*words, "--json", tmp_path / "new" / "out.json")
    assert (done.exit_code, done.stderr) == (0, "")
    found = json.loads((tmp_path / "new" / "out.json").read_text())
    for table in (found["accuracy"], found["choice_accuracy"], *found["intervals"].values()):
        assert {length: list(row) for length, row in table.items()} == {"150": ["0.0", "0.5"], "200": ["0.0", "0.5"]}
    assert (found["task"], found["chance"], found["trials"]) == ("niah", 0.1, 1)
    assert "chosen of 10" in done.stdout


def test_a_model_whose_file_holds_no_tokenizer(run_eval: Eval, story: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.safetensors"
    save_backbone(MODEL, bare, {})
    words = ["--model", bare, "--data", story, "--limit-tokens", 20]
    done = run_eval(*words)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "name one with --tokenizer" in done.stderr
    save_tokenizer(tiny_tokenizer(), tmp_path / "words.json")
    assert run_eval(*words, "--tokenizer", tmp_path / "words.json").exit_code == 0


def unusable(folder: Path) -> dict[str, Path]:
    """Files that are no text, by what they are."""
    paths = {name: folder / f"{name}.txt" for name in ("binary", "empty", "blank", "nul")}
    paths["binary"].write_bytes(bytes(range(255, 0, -1)))
    paths["empty"].write_bytes(b"")
    paths["blank"].write_text(" \n\n")
    paths["nul"].write_bytes(b"text\0text")
    return paths


@pytest.mark.parametrize("task", ["perplexity", "lastword", "niah"])
@pytest.mark.parametrize(
    ("name", "said"),
    [("binary", "is no UTF-8 text"), ("empty", "empty"), ("blank", "white space alone"), ("nul", "holds NUL bytes")],
)
def test_what_is_no_text_is_one_line(run_eval: Eval, tmp_path: Path, task: str, name: str, said: str) -> None:
    out = tmp_path / "out.json"
    done = run_eval("--task", task, "--data", unusable(tmp_path)[name], "--json", out)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert f"{name}.txt: " in done.stderr
    assert said in done.stderr
    assert not out.exists()


def test_a_tokenizer_of_another_model_is_one_line(run_eval: Eval, story: Path, tmp_path: Path) -> None:
    save_tokenizer(train_tokenizer(["some other words"], 270), tmp_path / "other.json")
    done = run_eval("--data", story, "--tokenizer", tmp_path / "other.json")
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "does not match" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--task perplexity needs a text; add --data FILE"),
        (["--task", "lastword"], "--task lastword needs a text"),
        (["--task", "lm-eval"], "add --tasks lambada_openai"),
        (["--data", "{story}", "--length", "512"], "--length belongs to --task niah; leave it out for perplexity"),
        (["--data", "{story}", "--trials", "5"], "--trials belongs to --task lastword or niah or lm-eval"),
        (["--task", "niah", "--data", "{story}", "--data", "{story}"], "takes one --data, not 2"),
        (["--data", "{story}", "--data", "{story}"], "give each once"),
        (["--data", "nowhere.txt"], "nowhere.txt: no such file or folder"),
        (["--data", "{story}", "--stride", "5"], "a stride belongs to a context"),
        (["--data", "{story}", "--model", "nowhere"], "neither a file nor a shipped backbone"),
        (["--data", "{story}", "--device", "abacus"], "which torch cannot use here"),
        (["--data", "{story}", "--json", "{folder}"], "is a folder"),
        (["--data", "{story}", "--json", "{story}", "--limit-tokens", "5"], "is an input"),
        (["--task", "niah", "--depth", "2"], "expected different numbers from 0"),
        (["--task", "niah", "--length", "20"], "needle and question alone take"),
    ],
)
def test_wrong_use_is_one_line(run_eval: Eval, story: Path, words: list[str], said: str) -> None:
    before = story.read_bytes()
    done = run_eval(*(word.format(story=story, folder=story.parent) for word in words))
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert said in done.stderr
    assert story.read_bytes() == before


def test_a_task_that_is_none(run_eval: Eval) -> None:
    assert run_eval("--task", "poetry").exit_code == 2


@pytest.mark.slow
def test_without_the_harness_its_package_is_named(run_eval: Eval, monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing transformers takes seconds."""
    pytest.importorskip("transformers")
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    done = run_eval("--task", "lm-eval", "--tasks", "lambada_openai")
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "pip install 'nirvana-mri[lm-eval]'" in done.stderr
