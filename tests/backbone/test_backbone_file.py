"""A backbone file gives back the model that was saved, bit by bit, or is refused in one line."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from backbone_support import tiny_config, tiny_model
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from published_support import CONCEPT
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from nirvana_mri import __version__
from nirvana_mri.backbone import (
    NirvanaLM,
    inspect_backbone,
    load_backbone,
    published_parameters,
    save_backbone,
    sha256,
)
from nirvana_mri.backbone import file as file_module
from nirvana_mri.backbone.layout import StoredTensor, read_header
from nirvana_mri.errors import CheckpointError, UsageError

VERSION = f'"toolkit_version":"{__version__}'.encode()
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "tiny.safetensors"
    save_backbone(tiny_model(1, torch.float32), path, {"made for": "tests"})
    return path


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_saved_comes_back(tmp_path: Path, dtype: torch.dtype, tied: bool) -> None:
    model = tiny_model(1, dtype, tie_word_embeddings=tied)
    save_backbone(model, tmp_path / "a.safetensors", {})
    loaded = load_backbone(tmp_path / "a.safetensors")
    assert sha256(loaded) == sha256(model)
    assert loaded.config == model.config
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    ids = torch.tensor([[3, 1, 4, 1, 5]])
    assert torch.equal(loaded(input_ids=ids).logits, model(input_ids=ids).logits)


def test_every_field_of_the_configuration_is_kept(tmp_path: Path) -> None:
    config = tiny_config(
        window_size=7,
        norm_eps=1e-5,
        initializer_range=0.2,
        pad_token_id=3,
        trigger_rate=0.5,
        num_layers=1,
        architecture="attention",
        rotary=True,
    )
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    assert not [name for name, value in dataclasses.asdict(config).items() if value == defaults[name]]
    save_backbone(NirvanaLM(config), tmp_path / "a.safetensors", {})
    assert load_backbone(tmp_path / "a.safetensors").config == config


def test_others_can_read_it(saved: Path) -> None:
    """The published names, for safetensors' own reader too; the layout is the one that it would write."""
    model = tiny_model(1, torch.float32)
    with safe_open(saved, "pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert {name: p.data_ptr() for name, p in tensors.items()}.keys() == published_parameters(model).keys()
    assert all(torch.equal(tensors[name], p) for name, p in published_parameters(model).items())
    assert metadata["format"] == "nirvana-backbone/1"
    assert metadata["sha256"] == sha256(model)
    assert json.loads(metadata["config"]) == dataclasses.asdict(model.config)
    assert json.loads(metadata["source"]) == {"made for": "tests"}


def test_what_a_file_says_of_itself(saved: Path) -> None:
    found = inspect_backbone(saved)
    assert found.sha256 == sha256(load_backbone(saved))
    assert (found.parameters, found.dtype) == (12_436, torch.float32)
    assert found.source == {"made for": "tests"}
    assert json.loads(json.dumps(found.as_dict()))["dtype"] == "float32"


def test_another_dtype_can_be_asked_for(saved: Path, tmp_path: Path) -> None:
    assert sha256(load_backbone(saved, dtype=torch.bfloat16)) == sha256(tiny_model(1, torch.float32).bfloat16())
    model = tiny_model(1, torch.float32)
    model.norm.weight[3] = 1e6
    save_backbone(model, tmp_path / "large.safetensors", {})
    with pytest.raises(CheckpointError, match=r"model.norm.weight reaches 1e\+06; torch.float16 ends at 65504"):
        load_backbone(tmp_path / "large.safetensors", dtype=torch.float16)
    assert load_backbone(tmp_path / "large.safetensors", dtype=torch.bfloat16).norm.weight[3] == 999424


def test_what_cannot_be_asked_for(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"dtype is torch.int8; expected"):
        load_backbone(saved, dtype=torch.int8)
    with pytest.raises(UsageError, match=r"device is 'abacus'"):
        load_backbone(saved, device="abacus")
    with pytest.raises(UsageError, match=r"no such file"):
        load_backbone(tmp_path / "missing.safetensors")
    with pytest.raises(UsageError, match=r"no such file"):
        load_backbone(tmp_path)


def unfit(change: Callable[[NirvanaLM], object]) -> NirvanaLM:
    model = tiny_model(1, torch.float32)
    change(model)
    return model


@pytest.mark.parametrize(
    ("model", "kind", "message"),
    [
        (unfit(lambda m: m.norm.bfloat16()), UsageError, r"torch.bfloat16, torch.float32.*model.to\(dtype\)"),
        (unfit(lambda m: m.to("meta")), UsageError, r"on meta"),
        (unfit(lambda m: m.norm.weight.fill_(torch.nan)), CheckpointError, r"model.norm.weight.*finite"),
    ],
    ids=["mixed", "meta", "NaN"],
)
def test_a_model_that_cannot_be_saved_leaves_the_older_file(
    tmp_path: Path, model: NirvanaLM, kind: type[Exception], message: str
) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"older")
    with pytest.raises(kind, match=message):
        save_backbone(model, tmp_path / "a.safetensors", {})
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"older"]


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_backbone(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError):
        inspect_backbone(path)
    return str(caught.value)


def bits(size: int) -> st.SearchStrategy[int]:
    """A bit of a file: as often in its header as in its data."""
    return st.one_of(st.integers(0, 8 * 5000 - 1), st.integers(0, 8 * size - 1))


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flipped_bit_anywhere_is_refused(saved: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(saved.read_bytes())
    bit = data.draw(bits(len(content)))
    content[bit // 8] ^= 1 << bit % 8
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(content)
    refused(damaged)


def test_each_word_of_the_metadata_is_sealed(saved: Path, tmp_path: Path) -> None:
    """Also the ones that move no weight: a window or a source that has changed unnoticed would be a lie."""
    content = saved.read_bytes()
    for found, other in (
        (b"1e-06", b"1e-05"),
        (b"0.01", b"0.02"),
        (b"made for", b"made far"),
        (b'"0.1.0"', b'"0.2.0"'),
    ):
        assert content.count(found) == 1
        (tmp_path / "a.safetensors").write_bytes(content.replace(found, other))
        assert "damaged" in refused(tmp_path / "a.safetensors")


@given(cut=st.floats(0, 1, exclude_max=True), more=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(cut=0.0, more=False)
@example(cut=0.9999999, more=False)
def test_a_file_cut_or_grown_anywhere_is_refused(saved: Path, tmp_path: Path, cut: float, more: bool) -> None:
    content = saved.read_bytes()
    place = int(cut * len(content))
    (tmp_path / "a.safetensors").write_bytes(content + content[:place] + b"." if more else content[:place])
    refused(tmp_path / "a.safetensors")


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_headers_that_we_take_the_peer_takes_alike(saved: Path, tmp_path: Path, data: st.DataObject) -> None:
    """Any byte of the header replaced by any other: where our reader takes it, safetensors reads the same tensors."""
    content = bytearray(saved.read_bytes())
    length = int.from_bytes(content[:8], "little")
    content[data.draw(st.integers(0, 7 + length))] = data.draw(st.sampled_from(b' 0123456789,:"[]{}FBI\xff'))
    damaged = tmp_path / "a.safetensors"
    damaged.write_bytes(content)
    try:
        tensors = read_header(damaged).tensors
        assert all(stored.dtype.is_floating_point for stored in tensors.values())
    except CheckpointError:
        return
    with safe_open(damaged, "pt") as peer:
        assert {name: list(stored.shape) for name, stored in tensors.items()} == {
            name: peer.get_slice(name).get_shape()
            for name in peer.keys()  # noqa: SIM118
        }


def rewritten(target: Path, saved: Path, sealed: bool = True, **metadata: str | None) -> Path:
    """The file with other metadata, made by someone who knows the seal."""
    with safe_open(saved, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        words = {key: value for key, value in (file.metadata() | metadata).items() if value is not None}
    if sealed:
        words["seal"] = file_module._seal(words)
    save_file(tensors, target, words)
    return target


def config(**changes: Any) -> str:
    return json.dumps(dataclasses.asdict(tiny_config()) | changes)


HOSTILE: dict[str, tuple[str, str]] = {
    "layers": (config(num_layers=10**9), "num_layers is 1000000000;"),
    "more layers": (config(num_layers=4000), "missing"),
    "width": (config(hidden_size=2**50, num_heads=2**10), "hidden_size is 1125899906842624;"),
    "product": (config(hidden_size=2**20, intermediate_size=2**20, concept_dim=2**20), "needs"),
    "overflow": (config(vocab_size=10**400), "vocab_size is 1000000000000000000000000000000000000000;"),
    "vocabulary": (config(vocab_size=30), "29 rows, but the configuration's vocabulary has 30"),
    "negative": (config(vocab_size=-1), "vocab_size is -1"),
    "heads": (config(num_heads=3), "multiple of num_heads 3"),
    "word": (config(hidden_size="16"), "hidden_size is '16'"),
    "true": (config(num_layers=True), "num_layers is True"),
    "float": (config(num_layers=4.0), "num_layers is 4.0"),
    "tied": (config(tie_word_embeddings=1), "tie_word_embeddings is 1"),
    "NaN": (config(norm_eps=float("nan")), "NaN is no finite number"),
    "infinity": (config().replace("1e-06", "1e999"), "1e999 is no finite number"),
    "unknown": (config(dropout=0.1), "unknown key dropout"),
    "twice": (config().replace('"num_heads"', '"num_layers"'), "num_layers comes twice"),
    "missing": ("{}", "missing"),
    "list": ("[]", "expected an object"),
    "deep": ("[" * 100_000, "not readable JSON"),
    "no JSON": ("config", "not readable JSON"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_configuration_is_refused_before_any_weight_is_read(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    text, message = HOSTILE[case]
    monkeypatch.setattr(StoredTensor, "read", lambda stored: pytest.fail("weights were read"))
    assert message in refused(rewritten(tmp_path / "a.safetensors", saved, config=text))


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"format": "nirvana-mri-model/1"}, "nirvana-mri backbone import"),
        ({"format": None}, "format is none"),
        ({"sha256": None}, "not as it was written"),
        ({"sealed": False, "seal": None}, "not as it was written"),
        ({"sha256": "0" * 64}, "expected 000000000000; the file is damaged"),
    ],
)
def test_metadata_that_do_not_belong(saved: Path, tmp_path: Path, metadata: dict[str, Any], message: str) -> None:
    assert message in refused(rewritten(tmp_path / "a.safetensors", saved, **metadata))


def test_a_source_that_is_no_object_is_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="source is 3"):
        inspect_backbone(rewritten(tmp_path / "a.safetensors", saved, source="3"))


def write_header(path: Path, header: bytes, data: bytes = b"", length: int | None = None) -> Path:
    path.write_bytes((len(header) if length is None else length).to_bytes(8, "little") + header + data)
    return path


TENSOR = '"a":{"dtype":"F32","shape":[1],"data_offsets":[%s]}'
HEADERS: dict[str, tuple[bytes, bytes, int | None, str]] = {
    "nothing": (b"", b"", 0, "not a complete safetensors file"),
    "length": (b"{}", b"", 2**63, "not a complete safetensors file"),
    "list": (b"[]", b"", None, "header is a list"),
    "deep": (b'{"a":' * 50_000, b"", None, "not readable JSON"),
    "not text": (b'{"\xff":1}', b"", None, "not readable JSON"),
    "gap": (f"{{{TENSOR % '4,8'}}}".encode(), bytes(8), None, "does not begin where"),
    "overlap": (
        f'{{{TENSOR % "0,4"},"b":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}'.encode(),
        bytes(4),
        None,
        "does not begin where",
    ),
    "beyond": (f"{{{TENSOR % '0,4'}}}".encode(), bytes(3), None, "is it complete?"),
    "size": (f"{{{TENSOR % '0,8'}}}".encode(), bytes(8), None, "entry of a contradicts"),
    "huge": (b'{"a":{"dtype":"F32","shape":[%d],"data_offsets":[0,4]}}' % 10**30, bytes(4), None, "contradicts"),
    "negative": (b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', bytes(4), None, "contradicts"),
    "metadata": (b'{"__metadata__":{"format":1}}', b"", None, "__metadata__ must map"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_header_that_lies_is_refused(tmp_path: Path, case: str) -> None:
    header, data, length, message = HEADERS[case]
    path = write_header(tmp_path / "a.safetensors", header, data, length)
    with pytest.raises(CheckpointError) as caught:
        read_header(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(SafetensorError):
        safe_open(path, "pt").__enter__()


def test_a_header_beyond_reason_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes((2**40).to_bytes(8, "little"))
    with path.open("r+b") as file:
        file.truncate(2**41)  # two terabytes that take no room
    with pytest.raises(CheckpointError, match="header of 1099511627776 bytes"):
        read_header(path)


def test_a_file_that_shrinks_while_it_is_read_is_refused(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(saved.read_bytes())
    stored = read_header(path).tensors[CONCEPT]
    path.write_bytes(saved.read_bytes()[: stored.start + 3])
    with pytest.raises(CheckpointError, match=f"ends inside {CONCEPT}"):
        stored.read()
