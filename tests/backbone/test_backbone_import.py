"""The authors' checkpoints become one backbone file with the same weights, in little memory, or nothing at all."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from backbone_support import TOLERANCE, Truth, error, tiny_config, tiny_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from language_support import tiny_tokenizer
from published_support import CONCEPT, EMBEDDING, HEAD, config_json, state, write_cache, write_folder
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from nirvana_mri.backbone import BackboneConfig, import_published, load_backbone, sha256
from nirvana_mri.backbone.file import stored_tokenizer
from nirvana_mri.backbone.published import published_shapes
from nirvana_mri.backbone.published_folder import find_published, published_config
from nirvana_mri.backbone.tokenizer import save_tokenizer
from nirvana_mri.errors import CheckpointError, NirvanaError, UsageError

SECOND = "model-00002-of-00003.safetensors"
INDEX = "model.safetensors.index.json"


def folder(path: Path, shards: int = 3, **changes: Any) -> Path:
    model = tiny_model(1, torch.float32, **changes)
    return write_folder(path / "published", state(model), config_json(model.config), shards)


def refused(source: Path, out: Path) -> str:
    """What import says, in one line; the folder of its output is as it was."""
    out.mkdir(exist_ok=True)
    before = sorted(out.iterdir())
    with pytest.raises(NirvanaError) as caught:
        import_published(source, out / "a.safetensors")
    assert "\n" not in str(caught.value)
    assert sorted(out.iterdir()) == before
    return str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("shards", [1, 3])
def test_the_weights_arrive(tmp_path: Path, shards: int, tied: bool, dtype: torch.dtype) -> None:
    model = tiny_model(1, dtype, tie_word_embeddings=tied)
    source = write_folder(tmp_path / "published", state(model), config_json(model.config), shards)
    made = import_published(source, tmp_path / "a.safetensors")
    with safe_open(made.path, "pt") as file:
        assert file.metadata()["sha256"] == made.sha256 == sha256(model)
    loaded = load_backbone(made.path)
    assert sha256(loaded) == sha256(model)
    assert loaded.config == model.config
    assert (made.dtype, made.source, made.warnings) == (dtype, {"folder": "published"}, ())
    assert made.parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("case", ["case_i_short", "case_ii_long", "case_iv_window"])
def test_the_authors_own_weights_give_their_numbers(shared_fixtures: Path, tmp_path: Path, case: str) -> None:
    truth = Truth.read(shared_fixtures, case)
    source = write_folder(tmp_path / "published", truth.under("param."), truth.info["config"], 2)
    window = truth.info["window_size_active"]
    import_published(source, tmp_path / "a.safetensors", window_size=window)
    model = load_backbone(tmp_path / "a.safetensors")
    assert sha256(model) == sha256(truth.model(torch.float32, window))
    expected = truth.tensors["f32.logits"]
    assert error(model(input_ids=truth.tensors["in.input_ids"]).logits, expected) <= TOLERANCE[torch.float32]


def test_the_authors_configuration(shared_fixtures: Path, tmp_path: Path) -> None:
    published = json.loads((shared_fixtures / "nirvana" / "case_vi_1_3B_shapes.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(published["config"]))
    assert published_config(tmp_path / "config.json", 2048) == BackboneConfig.base()
    shapes = published_shapes(BackboneConfig.base()) | {HEAD: (32000, 2048)}
    assert {name: list(shape) for name, shape in shapes.items()} == published["state_dict"]


@pytest.mark.parametrize("layers", [1, 2, 3, 5])
def test_shapes_are_those_of_the_model(layers: int) -> None:
    shapes = published_shapes(tiny_config(num_layers=layers))
    assert shapes == {name: tuple(p.shape) for name, p in state(tiny_model(num_layers=layers)).items()}
    assert list(shapes) == sorted(shapes)


def test_a_tied_head_may_be_there_as_a_copy(tmp_path: Path) -> None:
    model = tiny_model(1, torch.float32)
    tensors = state(model)
    source = write_folder(tmp_path / "p", tensors | {HEAD: tensors[EMBEDDING].clone()}, config_json(model.config), 2)
    assert import_published(source, tmp_path / "a.safetensors").sha256 == sha256(model)
    write_folder(source, tensors | {HEAD: tensors[EMBEDDING] + 1e-6}, config_json(model.config), 2)
    assert f"{HEAD} differs from {EMBEDDING}" in refused(source, tmp_path / "out")
    write_folder(source, tensors | {HEAD: tensors[EMBEDDING][:5].clone()}, config_json(model.config), 2)
    assert f"{HEAD} has 5 rows" in refused(source, tmp_path / "out")


def test_a_cached_snapshot_of_links(tmp_path: Path) -> None:
    snapshot = write_cache(tmp_path / "home", "Owner/Name", folder(tmp_path))
    assert all(path.is_symlink() for path in snapshot.iterdir())
    made = import_published(snapshot, tmp_path / "a.safetensors")
    assert made.sha256 == sha256(tiny_model(1, torch.float32))
    assert all(path.is_symlink() for path in snapshot.iterdir())


def test_a_file_or_an_index_may_be_named(tmp_path: Path) -> None:
    expected = sha256(tiny_model(1, torch.float32))
    one, three = folder(tmp_path / "one", 1), folder(tmp_path / "three")
    (one / "model.safetensors").rename(one / "best.safetensors")
    assert import_published(one / "best.safetensors", tmp_path / "a.safetensors").sha256 == expected
    assert import_published(three / INDEX, tmp_path / "b.safetensors").sha256 == expected
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert "it holds best.safetensors: name the file itself" in refused(one, tmp_path / "out")
    assert "one shard of several; name the folder" in refused(three / SECOND, tmp_path / "out")


def test_the_window_is_the_callers(tmp_path: Path) -> None:
    source = folder(tmp_path)
    assert import_published(source, tmp_path / "a.safetensors").config.window_size is None
    import_published(source, tmp_path / "a.safetensors", window_size=9)
    assert load_backbone(tmp_path / "a.safetensors").config == tiny_config(window_size=9)
    with pytest.raises(UsageError, match="the window is 0 tokens"):
        import_published(source, tmp_path / "b.safetensors", window_size=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_weights_can_be_converted(tmp_path: Path, dtype: torch.dtype) -> None:
    made = import_published(folder(tmp_path), tmp_path / "a.safetensors", dtype=dtype)
    assert sha256(load_backbone(made.path)) == made.sha256 == sha256(tiny_model(1, torch.float32).to(dtype))


def test_values_beyond_a_dtype_are_refused(tmp_path: Path) -> None:
    model = tiny_model(1, torch.float32)
    model.norm.weight[0] = -1e5
    source = write_folder(tmp_path / "p", state(model), config_json(model.config))
    with pytest.raises(CheckpointError, match=r"model.safetensors: model.norm.weight reaches 100000.*choose bfloat16"):
        import_published(source, tmp_path / "a.safetensors", dtype=torch.float16)
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


def test_of_several_dtypes_the_most_common_stays(tmp_path: Path) -> None:
    model = tiny_model(1, torch.bfloat16)
    tensors = {name: p.float() if p.ndim == 1 else p for name, p in state(model).items()}
    made = import_published(
        write_folder(tmp_path / "p", tensors, config_json(model.config)), tmp_path / "a.safetensors"
    )
    assert made.dtype == torch.bfloat16
    assert made.sha256 == sha256(model)
    vectors = sum(p.ndim == 1 for p in tensors.values())
    assert made.warnings[0].startswith(f"{vectors} of {len(tensors)} tensors become torch.bfloat16 like the rest (")


Tensors = dict[str, Tensor]
DAMAGE: dict[str, tuple[Callable[[Tensors], object], str]] = {
    "missing": (lambda t: t.pop(CONCEPT), f"1 missing ({CONCEPT}), 0 unexpected"),
    "unexpected": (lambda t: t.update({"extra.weight": torch.ones(2)}), "0 missing, 1 unexpected (extra.weight)"),
    "misshapen": (lambda t: t.update({CONCEPT: t[CONCEPT].T.contiguous()}), f"{CONCEPT} is (16, 12)"),
    "vocabulary": (lambda t: t.update({EMBEDDING: t[EMBEDDING][1:].clone()}), f"{EMBEDDING} has 28 rows, but"),
    "NaN": (lambda t: t[CONCEPT].fill_(torch.nan), f"{CONCEPT} (torch.float32) must hold finite"),
    "infinity": (lambda t: t["model.norm.weight"][3:4].fill_(-torch.inf), "model.norm.weight (torch.float32) must"),
    "integers": (lambda t: t.update({CONCEPT: t[CONCEPT].long()}), f"{CONCEPT} is I64; expected one of F64"),
    "empty": (lambda t: t.clear(), "missing"),
}


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_refused_in_one_line(tmp_path: Path, damage: str, shards: int) -> None:
    model = tiny_model(1, torch.float32)
    tensors = state(model)
    harm, message = DAMAGE[damage]
    harm(tensors)
    source = write_folder(tmp_path / "published", tensors, config_json(model.config), shards if tensors else 1)
    said = refused(source, tmp_path / "out")
    assert message in said
    assert str(source) in said


CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "llama": ({"model_type": "llama"}, "describes a llama model"),
    "class": ({"architectures": ["LlamaForCausalLM"]}, "describes a LlamaForCausalLM model"),
    "lacking": ({"concept_dim": None}, "lacks concept_dim"),
    "word": ({"hidden_size": "wide"}, "hidden_size is 'wide'; expected a whole number"),
    "list": ({"hidden_size": [16]}, "hidden_size is [16]; expected"),
    "ratio": ({"intermediate_size": None, "hidden_ratio": 1e308}, "config.json: "),
    "huge": ({"num_hidden_layers": 10**9}, "num_layers is 1000000000;"),
    "overflow": ({"vocab_size": 10**400}, "vocab_size is 1000000000000000000000000000000000000000;"),
    "vocabulary": ({"vocab_size": 30}, "has 29 rows, but the configuration's vocabulary has 30"),
    "tied": ({"tie_word_embeddings": "false"}, "tie_word_embeddings is 'false'; expected true or false"),
    "activation": ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
    "layers": ({"num_hidden_layers": 5}, "missing (model.layers.4."),
    "untied": ({"tie_word_embeddings": False}, f"1 missing ({HEAD})"),
    "padding": ({"pad_token_id": "two"}, "pad_token_id is 'two'; expected"),
    "true": ({"num_heads": True}, "num_heads is True; expected"),
    "epsilon": ({"norm_eps": None}, "norm_eps is None; expected a number"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_configuration_that_does_not_fit_is_refused(tmp_path: Path, case: str) -> None:
    change, message = CONFIGS[case]
    source = folder(tmp_path)
    (source / "config.json").write_text(json.dumps(config_json(tiny_config()) | change))
    said = refused(source, tmp_path / "out")
    assert message in said
    assert len(said) < 600


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": NaN}', '{"a":1,"a":2}', "[" * 100_000, "\ufeff{}"])
def test_a_config_that_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    source = folder(tmp_path)
    (source / "config.json").write_text(text)
    assert str(source / "config.json") in refused(source, tmp_path / "out")


def test_unknown_keys_and_no_model_type_are_fine(tmp_path: Path) -> None:
    source = folder(tmp_path)
    found = config_json(tiny_config()) | {"anything": [1, {"deep": None}]}
    del found["model_type"], found["architectures"]
    (source / "config.json").write_text(json.dumps(found))
    import_published(source, tmp_path / "a.safetensors")


def test_what_the_adapter_says_beyond_the_authors_is_kept(tmp_path: Path) -> None:
    """attention_window and trigger_rate, which the transformers adapter writes, change the numbers."""
    source = folder(tmp_path)
    found = config_json(tiny_config()) | {"model_type": "nirvana", "attention_window": 5, "trigger_rate": 0.0}
    (source / "config.json").write_text(json.dumps(found))
    made = import_published(source, tmp_path / "a.safetensors")
    assert made.config == tiny_config(window_size=5, trigger_rate=0.0)
    assert import_published(source, tmp_path / "a.safetensors", window_size=9).config.window_size == 9


def edit_index(source: Path, edit: Callable[[dict[str, str]], object]) -> None:
    found = json.loads((source / INDEX).read_text())
    edit(found["weight_map"])
    (source / INDEX).write_text(json.dumps(found))


INDEXES: dict[str, tuple[Callable[[dict[str, str]], object], str]] = {
    "absent shard": (lambda m: m.update({CONCEPT: "model-00004.safetensors"}), "1 of 4 shards missing (model-00004"),
    "parent": (lambda m: m.update({CONCEPT: f"../published/{SECOND}"}), f"the shard ../published/{SECOND}, which"),
    "absolute": (lambda m: m.update({CONCEPT: "/etc/hosts.safetensors"}), "the shard /etc/hosts.safetensors, which"),
    "dots": (lambda m: m.update({CONCEPT: ".."}), "the shard .., which"),
    "nul": (lambda m: m.update({CONCEPT: "a\0.safetensors"}), "which is no .safetensors file"),
    "number": (lambda m: m.update({CONCEPT: 3}), "weight_map must say which shard holds each tensor"),
    "not listed": (lambda m: m.pop(CONCEPT), f"says that {CONCEPT} is in no shard, but it is in model-0000"),
    "not there": (lambda m: m.update({"x": SECOND}), f"says that x is in {SECOND}, but it is in no shard"),
    "elsewhere": (
        lambda m: m.update({name: SECOND for name in m if name == "model.embeddings.weight"}),
        f"is in {SECOND}, but it is in model-00001",
    ),
    "empty": (lambda m: m.clear(), "weight_map must say"),
}


@pytest.mark.parametrize("case", INDEXES)
def test_an_index_that_contradicts_its_shards_is_refused(tmp_path: Path, case: str) -> None:
    source = folder(tmp_path)
    edit, message = INDEXES[case]
    edit_index(source, edit)
    said = refused(source, tmp_path / "out")
    assert message in said
    assert str(source / INDEX) in said


def test_a_tensor_that_comes_twice_is_refused(tmp_path: Path) -> None:
    source = folder(tmp_path)
    second = load_file(source / SECOND)
    first = load_file(source / "model-00001-of-00003.safetensors")
    save_file(second | {EMBEDDING: first[EMBEDDING]}, source / SECOND)
    assert f"{EMBEDDING} is in model-00001-of-00003.safetensors and again in {SECOND}" in refused(
        source, tmp_path / "o"
    )
    text = (source / INDEX).read_text().replace('"weight_map": {', f'"weight_map": {{"{EMBEDDING}": "{SECOND}", ')
    (source / INDEX).write_text(text)
    assert f"{EMBEDDING} comes twice" in refused(source, tmp_path / "o")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt"])
def test_a_pickle_is_never_opened(tmp_path: Path, name: str) -> None:
    source = folder(tmp_path, 1)
    (source / "model.safetensors").rename(source / name)
    for given_path in (source, source / name):
        said = refused(given_path, tmp_path / "out")
        assert f"{name} is a pickle, which can run any program" in said
        assert "save_file(torch.load(" in said


def test_what_is_not_there(tmp_path: Path) -> None:
    assert "no such folder or file" in refused(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    assert "holds neither model.safetensors nor" in refused(tmp_path / "empty", tmp_path / "out")
    (tmp_path / "notes.txt").write_text("")
    assert "expected a folder" in refused(tmp_path / "notes.txt", tmp_path / "out")
    source = folder(tmp_path)
    (source / "config.json").unlink()
    assert "holds no config.json" in refused(source, tmp_path / "out")


def test_an_input_is_never_replaced(tmp_path: Path) -> None:
    source = folder(tmp_path)
    link = tmp_path / "link.safetensors"
    link.symlink_to(source / SECOND)
    before = {path: path.read_bytes() for path in source.iterdir()}
    for target in (link, source / SECOND, source / "config.json", source / INDEX):
        with pytest.raises(UsageError, match="is an input"):
            import_published(source, target)
    with pytest.raises(UsageError, match="is a folder"):
        import_published(source, source)
    assert {path: path.read_bytes() for path in source.iterdir()} == before


def test_an_older_file_stays_when_an_import_fails(tmp_path: Path) -> None:
    model = tiny_model(1, torch.float32)
    tensors = state(model)
    tensors[max(tensors)][-1] = torch.nan  # the last to be written
    source = write_folder(tmp_path / "published", tensors, config_json(model.config))
    (tmp_path / "a.safetensors").write_bytes(b"older")
    with pytest.raises(CheckpointError, match="finite"):
        import_published(source, tmp_path / "a.safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "published"]
    assert (tmp_path / "a.safetensors").read_bytes() == b"older"


def test_the_tokenizer_beside_the_weights_goes_into_the_file(tmp_path: Path) -> None:
    source = folder(tmp_path, vocab_size=400)
    save_tokenizer(tiny_tokenizer(), source / "tokenizer.json")
    made = import_published(source, tmp_path / "a.safetensors")
    held = stored_tokenizer(made.path)
    assert held is not None
    assert held.sha256 == tiny_tokenizer().sha256
    assert made.warnings == ()


@pytest.mark.parametrize("vocabulary", [29, 400])
def test_a_tokenizer_that_cannot_be_used_stays_outside_and_is_named(tmp_path: Path, vocabulary: int) -> None:
    source = folder(tmp_path, vocab_size=vocabulary)
    text = tiny_tokenizer().serialised
    (source / "tokenizer.json").write_text(text if vocabulary == 29 else text[:100])
    made = import_published(source, tmp_path / "a.safetensors")
    assert stored_tokenizer(made.path) is None
    assert len(made.warnings) == 1
    assert "left out the tokenizer" in made.warnings[0]


def test_progress_counts_tensors(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    import_published(folder(tmp_path), tmp_path / "a.safetensors", progress=lambda *step: seen.append(step))
    count = len(published_shapes(tiny_config()))
    assert seen == [(done, count) for done in range(1, count + 1)]


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_damage_never_makes_a_file_that_lies(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """A flipped byte or a cut in any file: refused with nothing left, or a file that holds what it says it holds."""
    path = tmp_path_factory.mktemp("damage")
    source = folder(path, data.draw(st.sampled_from([1, 3])))
    expected = sha256(tiny_model(1, torch.float32))
    files = sorted(source.iterdir())
    file = files[data.draw(st.integers(0, len(files) - 1))]
    content = bytearray(file.read_bytes())
    place = data.draw(st.one_of(st.integers(0, min(3000, len(content) - 1)), st.integers(0, len(content) - 1)))
    if cut := data.draw(st.booleans()):
        del content[place:]
    else:
        content[place] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    said, made = "", None
    try:
        made = import_published(source, path / "a.safetensors")
    except NirvanaError as problem:
        said = str(problem)
    if made is None:
        assert "\n" not in said
        assert [left.name for left in path.iterdir()] == ["published"]
        return
    assert not cut
    loaded = load_backbone(made.path)
    assert made.sha256 == sha256(loaded)
    stored = {name: p for shard in source.glob("*.safetensors") for name, p in load_file(shard).items()}
    assert all(torch.equal(stored[name], p) for name, p in state(loaded).items())
    same = all(torch.equal(p, stored[name]) for name, p in state(tiny_model(1, torch.float32)).items())
    assert (made.sha256 == expected) == same


WIDE = dict(vocab_size=8192, hidden_size=1024, num_layers=4, num_heads=8, intermediate_size=2816, concept_dim=32)
MEASURE = """
import sys
from pathlib import Path
from nirvana_mri.backbone import import_published, load_backbone

def memory(word):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(l.split()[1]) for l in lines if l.startswith(word)) * 1024 / 1e6

warm, source, target = sys.argv[1:]
import_published(warm, target)
before = memory("VmRSS:")
import_published(source, target)
imported = memory("VmHWM:") - before
model = load_backbone(target)
loaded = memory("VmHWM:") - before
print(imported, loaded)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's account of peak memory")
def test_memory_is_about_a_tensor_and_for_loading_about_the_model(tmp_path: Path) -> None:
    """265 MB in four shards, the embedding alone 34 MB: the peak above the start, of a process of its own."""
    config = tiny_config(**WIDE)
    tensors = {name: torch.full(shape, 0.5) for name, shape in published_shapes(config).items()}
    size = sum(p.nbytes for p in tensors.values()) / 1e6
    assert size > 250
    source = write_folder(tmp_path / "wide", tensors, config_json(config), 4)
    del tensors
    warm = folder(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, warm, source, tmp_path / "a.safetensors"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    imported, loaded = map(float, done.stdout.split())
    assert imported < 100
    assert 0.95 * size < loaded < size + 100


def test_finding_reads_no_weights(tmp_path: Path) -> None:
    source = folder(tmp_path)
    found = find_published(source)
    assert [path.name for path in found.files] == [
        "config.json",
        *(f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)),
        INDEX,
    ]
