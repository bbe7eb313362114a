"""The page about the memory: whole in itself, safe against any text, and its numbers are those of the record."""

import json
import re
import sys
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import typer
from backbone_support import noise, tiny_model
from click.testing import Result
from typer.testing import CliRunner

from nirvana_mri.backbone.fingerprint import sha256
from nirvana_mri.backbone.tokenizer import BPETokenizer, train_tokenizer
from nirvana_mri.cli.backbone_inspect import _text, inspect
from nirvana_mri.cli.shell import command
from nirvana_mri.language.memory import MemoryRecord, memory_record
from nirvana_mri.language.memory_page import COLUMNS, memory_page, number, stability_words, token_texts

Run = Callable[..., Result]
HOSTILE = "a <script>alert('1')</script> & \"quoted\" <b>bold</b>\n\n naïve 北京 🎉 \x1b[31m \u202e gnirts\ttab.\n"


class Page(HTMLParser):
    """Tags, addresses, and the words of the text's tokens; complains of tags that do not close in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.addresses: list[str] = []
        self.alts: list[str] = []
        self.pieces: list[str] = []
        self.titles: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.seen.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]
        if tag == "img":
            self.alts.append(values["alt"] or "")
        if tag == "span" and "title" in values:
            self.titles.append(values["title"] or "")
            self.pieces.append("")
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["span"] and self.pieces:
            self.pieces[-1] += data


@pytest.fixture(scope="module")
def tokenizer() -> BPETokenizer:
    return train_tokenizer(["the cat sat on the mat, and the dog sat on the cat. " * 8], 280)


@pytest.fixture(scope="module")
def record(tokenizer: BPETokenizer) -> MemoryRecord:
    ids = torch.tensor([tokenizer.encode(HOSTILE)])
    return memory_record(tiny_model(vocab_size=tokenizer.vocab_size), ids, first=20)


@pytest.fixture(scope="module")
def page(record: MemoryRecord, tokenizer: BPETokenizer) -> str:
    pieces = token_texts(tokenizer, tokenizer.encode(HOSTILE))
    return memory_page(record, [("backbone", "<i>tiny</i>")], pieces, title="<script>")


def test_the_page_is_whole_in_itself(page: str) -> None:
    found = Page(page)
    assert not found.seen & {"script", "link", "iframe", "object", "b", "i"}
    assert found.addresses
    assert all(address.startswith("data:image/png;base64,") for address in found.addresses)
    assert not re.search(r"https?:|url\(|@import", page)
    assert all(found.alts)
    assert len(set(found.alts)) == len(found.alts)


def test_the_text_is_shown_as_it_is(page: str, record: MemoryRecord) -> None:
    found = Page(page)
    assert len(found.pieces) == record.tokens
    safe = HOSTILE.replace("\x1b", "\ufffd").replace("\u202e", "\ufffd")
    assert "".join(found.pieces).replace("·", "") == safe
    assert found.titles[3].startswith("token 3 ")
    assert (
        f"t {number(record.gate_attention[:, 3].mean())}, t2 {number(record.gate_delta[:, 3].mean())}"
        in found.titles[3]
    )
    assert f"loss {number(record.loss[2])} nats" in found.titles[3]
    assert "loss" not in found.titles[0]


def test_the_numbers_of_the_page_are_those_of_the_json(page: str, record: MemoryRecord) -> None:
    values = record.as_dict()
    rows = re.findall(r"<tr><th>(\d+)</th>((?:<td>[^<]*</td>)+)</tr>", page)
    assert [int(layer) for layer, _ in rows] == values["layers"]
    for (_, cells), layer in zip(rows, values["per_layer"], strict=True):
        assert re.findall(r"<td>([^<]*)</td>", cells) == [number(layer[key][kind]) for _, key, kind in COLUMNS]
    embedded = re.search(r"<pre>(.*?)</pre>", page, flags=re.DOTALL)
    assert embedded is not None
    assert json.loads(unescape(embedded[1])) == values
    assert f"{number(values['stability']['largest_update_over_weight'])} (layer" in page
    assert "the first 20 tokens" in page


def test_the_shades_follow_the_gate(page: str, record: MemoryRecord) -> None:
    shades = [int(shade) for shade in re.findall(r'<span class="g(\d)" title=', page)]
    t = record.gate_attention.mean(0)
    assert shades[int(t.argmin())] == 0
    assert shades[int(t.argmax())] == 7
    assert all(a <= b for a, b in zip(sorted(shades), [shades[i] for i in t.argsort()], strict=True))


def test_vectors_have_a_page_without_text() -> None:
    record = memory_record(tiny_model(), inputs_embeds=noise(1, 9, 16), clip=1e-6)
    page = memory_page(record, [])
    assert "The text" not in page
    assert "all tokens" in page
    assert "shortened" in page
    assert "nats" not in page
    Page(page)


@pytest.mark.parametrize(
    ("changes", "ids"),
    [({}, [3]), ({"trigger_rate": 0.0}, [3, 4]), ({"num_layers": 3, "trigger_rate": 1e30}, [3, 4, 5])],
    ids=["one token", "no learning", "runs away"],
)
def test_the_odd_ones_have_a_page(changes: dict[str, Any], ids: list[int]) -> None:
    record = memory_record(tiny_model(dtype=torch.float32, **changes), torch.tensor([ids]))
    page = Page(memory_page(record, [], ['<script>x</script>" onclick="x'] * record.tokens))
    assert "script" not in page.seen
    assert len(page.titles) == record.tokens
    assert all("nan" not in line and "inf" not in line for line in stability_words(record)[1:])


def test_tokens_that_end_inside_a_character_wait_for_it(tokenizer: BPETokenizer) -> None:
    ids = tokenizer.encode("a 🎉 \ufffd")
    texts = token_texts(tokenizer, ids)
    assert "".join(texts) == "a 🎉 \ufffd"
    assert texts.count("") >= 3
    assert "\ufffd" not in "".join(token_texts(tokenizer, tokenizer.encode("a 🎉!")))


@pytest.fixture
def run(tokenizer: BPETokenizer, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command, with a tiny model in place of the shipped one."""
    model = tiny_model(vocab_size=tokenizer.vocab_size)
    loaded = SimpleNamespace(model=model, tokenizer=tokenizer, name="tiny", sha256=sha256(model))
    module = ModuleType("load")
    module.load_language_model = lambda name, tokenizer=None: loaded
    monkeypatch.setitem(sys.modules, "nirvana_mri.language.load", module)
    app = typer.Typer()
    app.command()(command(inspect))
    return lambda *arguments: CliRunner().invoke(app, [str(x) for x in arguments])


def test_the_command_takes_a_text(run: Run, tmp_path: Path) -> None:
    text, out = "the cat <b>sat</b> on the mat", tmp_path / "page.html"
    assert run(text, "-o", out, "--json", tmp_path / "a.json").exit_code == 0
    found = json.loads((tmp_path / "a.json").read_text())
    assert "".join(found["text"]) == text
    assert found["clip"] is None
    assert len(found["per_layer_and_token"]["hybrid_ratio"][1]) == len(found["ids"]) == found["tokens"]
    assert found["backbone"]["sha256"][:12] in out.read_text()
    Page(out.read_text())


def test_the_command_takes_a_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "cat.txt").write_text("the cat sat on the mat")
    done = run(tmp_path / "cat.txt", "-o", tmp_path / "page.html", "--json", "-", "--tokens", 5, "--clip", 1e-5)
    found = json.loads(done.stdout)
    assert len(found["text"]) == 5
    assert found["clip"] == 1e-5
    assert max(map(max, found["per_layer_and_token"]["update_norm"])) <= 1.001e-5
    assert "cat.txt, its first 5 tokens" in (tmp_path / "page.html").read_text()


def test_the_command_refuses_in_one_line(run: Run, tmp_path: Path) -> None:
    file, out = tmp_path / "cat.html", tmp_path / "page.html"
    file.write_text("the cat")
    for arguments, words in (
        (("the cat", "-o", tmp_path / "page.png"), "a page is .html"),
        (("the cat", "-o", out, "--tokens", 0), "expected 1 or more"),
        (("the cat", "-o", out, "--clip", -1), "largest update"),
        (("  ", "-o", out), "TEXT is empty"),
        (("missing.txt", "-o", out), "no such file"),
        ((tmp_path, "-o", out), "is no file"),
        ((file, "-o", file), "is an input"),
    ):
        done = run(*arguments)
        assert (done.exit_code, words in done.stderr, done.stderr.count("\n")) == (2, True, 1), done.stderr
    assert not out.exists()
    assert file.read_text() == "the cat"


def test_a_long_text_is_no_name_of_a_file() -> None:
    assert _text("x" * 5000, 3) == (None, "x" * 5000)
