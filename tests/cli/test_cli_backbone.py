"""nirvana-mri backbone: kernels, import and info; the Hub through huggingface_hub's own code, without a network."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from backbone_support import tiny_model
from published_support import COMMIT, CONCEPT, EMBEDDING, config_json, state, write_cache, write_folder

from nirvana_mri.backbone import from_hub, kernels, load_backbone, sha256
from nirvana_mri.backbone.ops import registry
from nirvana_mri.backbone.ops.registry import Implementation, Operation
from nirvana_mri.cli.app import app
from nirvana_mri.errors import MissingExtraError, UsageError

Run = Callable[..., Any]
MODEL = tiny_model(1, torch.float32)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "Nirvana-tiny", state(MODEL), config_json(MODEL.config), shards=3)


@pytest.mark.parametrize("name", ["kernels", "import", "info"])
def test_each_has_help_with_an_example_that_parses(run: Run, name: str) -> None:
    group = typer.main.get_command(app).commands["backbone"]
    help_text = group.commands[name].help
    example = next(line.split("nirvana-mri ")[1] for line in help_text.splitlines() if "Example:" in line)
    assert example.startswith(f"backbone {name}")
    group.commands[name].make_context(name, example.split()[2:])
    assert f"Example: nirvana-mri backbone {name}" in run("backbone", name, "--help").stdout
    assert "Example: nirvana-mri backbone" in run("backbone", "--help").stdout


def test_kernels_lists_every_implementation(run: Run) -> None:
    shown = run("backbone", "kernels").stdout
    stored = json.loads(run("backbone", "kernels", "--json", "-").stdout)["operations"]
    assert [choice["operation"] for choice in stored] == sorted(registry.OPERATIONS)
    for choice in stored:
        operation = registry.find(choice["operation"])
        assert [kernel["name"] for kernel in choice["implementations"]] == [i.name for i in operation.implementations]
        usable = [kernel["name"] for kernel in choice["implementations"] if kernel["missing"] is None]
        assert usable == registry.implementations(operation.name)
        assert choice["default_on_cpu"] == operation.choose(None, torch.empty(0)).name
        assert choice["rule"] == operation.rule
        assert (
            f"{operation.name}: {choice['default_on_cpu']} on this CPU by default; the rule: {operation.rule}" in shown
        )
    assert "NIRVANA_KERNELS: not set" in shown


def test_kernels_shows_what_the_environment_overrides(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIRVANA_KERNELS", "gated_delta_rule=naive")
    done = run("backbone", "kernels")
    assert "NIRVANA_KERNELS: gated_delta_rule = naive" in done.stdout
    assert "naive (runs)" in done.stdout
    stored = json.loads(run("backbone", "kernels", "--json", "-").stdout)["operations"]
    assert {choice["operation"]: choice["asked"] for choice in stored} == {
        name: "naive" if name == "gated_delta_rule" else None for name in registry.OPERATIONS
    }


def add_one(x: torch.Tensor) -> torch.Tensor:
    return x + 1


def test_kernels_says_why_one_cannot_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Implementation("slow", "the definition", lambda: add_one)
    fast = Implementation("fast", "on a card", lambda: add_one, missing=lambda: "no card [CUDA] here")
    made = Operation("add_one", (slow, fast), ("fast", "slow"), "fast where there is a card, else slow")
    monkeypatch.setattr(kernels, "OPERATIONS", {"add_one": made})
    shown = " ".join(run("backbone", "kernels").stdout.split())
    assert "slow (runs) yes the definition fast no: no card [CUDA] here on a card" in shown
    assert "add_one: slow on this CPU by default; the rule: fast where there is a card, else slow" in shown
    monkeypatch.setitem(registry.OPERATIONS, "add_one", made)
    monkeypatch.setenv("NIRVANA_KERNELS", "add_one=fast")
    done = run("backbone", "kernels")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "error: add_one: fast cannot run here (no card [CUDA] here); choose from slow\n"


@pytest.mark.parametrize("value", ["trigger_update=abacus", "abacus=naive", "naive"])
def test_kernels_refuses_a_wrong_environment(run: Run, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("NIRVANA_KERNELS", value)
    done = run("backbone", "kernels")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1


def test_import_and_info(run: Run, published: Path, tmp_path: Path) -> None:
    out = tmp_path / "tiny.safetensors"
    done = run("backbone", "import", published, "-o", out)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"wrote {out}: 12,436 parameters, float32, full causal attention",
        f"sha256 {sha256(MODEL)}",
    ]
    assert sha256(load_backbone(out)) == sha256(MODEL)
    shown = run("backbone", "info", out).stdout
    for word in ("12,436 (float32)", sha256(MODEL), "folder Nirvana-tiny", "4 of width 16", "full causal"):
        assert word in shown
    stored = json.loads(run("backbone", "info", out, "--json", "-").stdout)
    assert (stored["sha256"], stored["config"]["num_layers"]) == (sha256(MODEL), 4)


def test_import_hands_its_options_on(run: Run, published: Path, tmp_path: Path) -> None:
    out = tmp_path / "tiny.safetensors"
    done = run("backbone", "import", published, "-o", out, "--dtype", "bfloat16", "--window", "9")
    assert "bfloat16, attention over 9 tokens" in done.stdout
    loaded = load_backbone(out)
    assert loaded.config.window_size == 9
    assert sha256(loaded) == sha256(tiny_model(1, torch.float32).bfloat16())


def test_import_names_the_file_for_its_source(
    run: Run, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("backbone", "import", published).exit_code == 0
    assert (tmp_path / "Nirvana-tiny.safetensors").is_file()
    monkeypatch.chdir(published)
    run("backbone", "import", ".")
    assert (published / "Nirvana-tiny.safetensors").is_file()


def test_import_says_what_it_converts(run: Run, tmp_path: Path) -> None:
    tensors = {name: p if p.ndim == 1 else p.bfloat16() for name, p in state(MODEL).items()}
    source = write_folder(tmp_path / "mixed", tensors, config_json(MODEL.config))
    done = run("backbone", "import", source, "-o", tmp_path / "a.safetensors")
    assert done.exit_code == 0
    assert "tensors become torch.bfloat16 like the rest" in done.stderr
    assert run("backbone", "import", source, "-o", tmp_path / "a.safetensors", "--dtype", "bfloat16").stderr == ""


BAD: dict[str, tuple[Callable[[dict[str, torch.Tensor]], object], str]] = {
    "missing": (lambda t: t.pop(CONCEPT), CONCEPT),
    "misshapen": (lambda t: t.update({CONCEPT: t[CONCEPT][:3].clone()}), f"{CONCEPT} is (3, 16)"),
    "vocabulary": (lambda t: t.update({EMBEDDING: t[EMBEDDING][:20].clone()}), "has 20 rows, but"),
    "NaN": (lambda t: t[CONCEPT][2].fill_(torch.nan), f"{CONCEPT} (torch.float32) must hold finite"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_checkpoint_is_one_line_and_leaves_nothing(run: Run, tmp_path: Path, bad: str) -> None:
    harm, message = BAD[bad]
    tensors = state(MODEL)
    harm(tensors)
    source = write_folder(tmp_path / "bad", tensors, config_json(MODEL.config), 2)
    out = tmp_path / "out"
    out.mkdir()
    done = run("backbone", "import", source, "-o", out / "a.safetensors")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert list(out.iterdir()) == []


def test_a_damaged_backbone_file_is_one_line(run: Run, published: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    run("backbone", "import", published, "-o", out)
    content = bytearray(out.read_bytes())
    content[-1] ^= 1
    out.write_bytes(content)
    done = run("backbone", "info", out)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "the file is damaged" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "got neither PATH and --from-hub; give exactly one"),
        (["{source}", "--from-hub", "a/b"], "got both PATH and --from-hub"),
        (["{source}", "--revision", "main"], "--revision belongs to --from-hub"),
        (["{source}", "-o", "{source}"], "must end in .safetensors"),
        (["{source}", "-o", "{source}/model-00001-of-00003.safetensors"], "is an input"),
        (["{source}", "--window", "0"], "the window is 0 tokens"),
        (["{source}/config.json"], "expected a folder"),
        (["nowhere"], "no such folder or file"),
        (["--from-hub", "a/b/c"], "'a/b/c' is no repository's name; expected OWNER/NAME"),
    ],
)
def test_wrong_use_is_one_line(run: Run, published: Path, words: list[str], said: str) -> None:
    before = {path: path.read_bytes() for path in published.iterdir()}
    done = run("backbone", "import", *(word.format(source=published) for word in words))
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
    assert {path: path.read_bytes() for path in published.iterdir()} == before


def test_without_huggingface_hub_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"nirvana-mri\[hf\]"):
        from_hub("YuhuaJiang/Nirvana")


def test_a_name_that_is_no_repository(tmp_path: Path) -> None:
    for name in ("..", "a/b/c", "", "a b", str(tmp_path)):
        with pytest.raises(UsageError, match="no repository's name"):
            from_hub(name)


def program(folder: Path, *commands: list[str], **environment: str) -> list[dict[str, Any]]:
    """Exit code, stdout and stderr of each, all in one process that starts with this environment."""
    pytest.importorskip("huggingface_hub")
    code = (
        "import json, sys\nfrom typer.testing import CliRunner\nfrom nirvana_mri.cli.app import app\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    done = CliRunner().invoke(app, words)\n"
        "    known = done.exception is None or isinstance(done.exception, SystemExit)\n"
        "    bug = '' if known else repr(done.exception)\n"
        "    print(json.dumps(dict(code=done.exit_code, out=done.stdout, err=done.stderr + bug)))\n"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(commands)],
        cwd=folder,
        env=kept | {"OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


def importing(repo: str, *words: str) -> list[str]:
    return ["backbone", "import", "--from-hub", repo, *words]


def test_from_the_hubs_cache_without_a_network(published: Path, tmp_path: Path) -> None:
    """The real huggingface_hub on a cache laid out as it leaves one, with HF_HUB_OFFLINE=1."""
    home, work = tmp_path / "home", tmp_path / "work"
    work.mkdir()
    write_cache(home, "YuhuaJiang/Nirvana", published)
    write_cache(home, "Owner/Partial", published, without="model-00002-of-00003.safetensors")
    good, pinned, other, partial, absent = program(
        work,
        importing("YuhuaJiang/Nirvana"),
        importing("YuhuaJiang/Nirvana", "--revision", COMMIT, "-o", "pinned.safetensors"),
        importing("YuhuaJiang/Nirvana", "--revision", "v2"),
        importing("Owner/Partial"),
        importing("Owner/Absent"),
        HF_HOME=str(home),
        HF_HUB_OFFLINE="1",
    )
    assert good["err"] == pinned["err"] == ""
    assert good["out"].startswith("wrote Nirvana.safetensors: 12,436 parameters, float32")
    assert sha256(load_backbone(work / "Nirvana.safetensors")) == sha256(MODEL)
    assert (work / "Nirvana.safetensors").read_bytes() == (work / "pinned.safetensors").read_bytes()
    for done, said in (
        (other, "YuhuaJiang/Nirvana at v2: the Hub is out of reach (or HF_HUB_OFFLINE is set)"),
        (partial, "1 of 3 shards missing (model-00002-of-00003.safetensors)"),
        (absent, "Owner/Absent: the Hub is out of reach (or HF_HUB_OFFLINE is set)"),
    ):
        assert (done["code"], done["out"], done["err"].count("\n")) == (1, "", 1)
        assert said in done["err"]
    assert sorted(path.name for path in work.iterdir()) == ["Nirvana.safetensors", "pinned.safetensors"]


@pytest.fixture
def hub(published: Path) -> Iterator[str]:
    """A Hub on this machine: one good repository, one gated, one that fails; its address."""
    files = {path.name: path.read_bytes() for path in published.iterdir()} | {"pytorch_model.bin": b"never fetched"}

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            if path.startswith("/Owner/Good/resolve/"):
                body = files[path.rsplit("/", 1)[-1]]
                self.answer(200, body, ETag=f'"{hashlib.sha1(body).hexdigest()}"', X_Repo_Commit=COMMIT)
            elif path.startswith("/api/models/Owner/Good/revision/main"):
                self.answer(200, json.dumps({"id": "Owner/Good", "sha": COMMIT, "siblings": []}).encode())
            elif path.startswith("/api/models/Owner/Good/tree/"):
                listed = [
                    {"type": "file", "path": name, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}
                    for name, body in files.items()
                ]
                self.answer(200, json.dumps(listed).encode())
            elif path.startswith("/api/models/Owner/Good/"):
                self.answer(404, X_Error_Code="RevisionNotFound")
            elif path.startswith("/api/models/Owner/Gated/"):
                self.answer(403, X_Error_Code="GatedRepo")
            elif path.startswith("/api/models/Owner/Broken/"):
                self.answer(400, b'{"error": "not today"}')
            else:
                self.answer(404, X_Error_Code="RepoNotFound")

        do_HEAD = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_from_a_hub(published: Path, tmp_path: Path, hub: str) -> None:
    """huggingface_hub's own download from a server on this machine, and what it refuses."""
    work = tmp_path / "work"
    work.mkdir()
    good, tag, gated, absent, broken = program(
        work,
        importing("Owner/Good"),
        importing("Owner/Good", "--revision", "v9"),
        importing("Owner/Gated"),
        importing("Owner/Absent"),
        importing("Owner/Broken"),
        HF_HOME=str(tmp_path / "home"),
        HF_ENDPOINT=hub,
        NO_PROXY="127.0.0.1",
        HF_HUB_DISABLE_PROGRESS_BARS="1",
    )
    assert (good["code"], good["err"]) == (0, "")
    assert sha256(load_backbone(work / "Good.safetensors")) == sha256(MODEL)
    assert not list((tmp_path / "home").rglob("pytorch_model.bin"))
    for done, said in (
        (tag, "Owner/Good at v9: the repository has no such branch, tag or commit"),
        (gated, "Owner/Gated: its owner asks for consent"),
        (absent, "Owner/Absent: no such repository, or a private one"),
        (broken, "Owner/Broken: the Hub did not deliver ("),
    ):
        assert (done["code"], done["out"], done["err"].count("\n")) == (1, "", 1)
        assert said in done["err"]
    assert [path.name for path in work.iterdir()] == ["Good.safetensors"]
