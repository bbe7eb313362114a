"""from_pretrained and save_pretrained: every bit comes back, in the authors' names, or one clear error says why not."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")

from backbone_support import error, tiny_config, tiny_model
from hf_support import published_keys, published_tensors, tiny_hf, write_published
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from nirvana_mri.backbone import NirvanaLM, load_published, sha256
from nirvana_mri.backbone.file import load_backbone
from nirvana_mri.backbone.hf import NirvanaForCausalLM
from nirvana_mri.backbone.importing import import_published
from nirvana_mri.errors import CheckpointError, UsageError

EMBEDDING, HEAD = "model.embeddings.weight", "lm_head.weight"
CONCEPT = "model.layers.2.Task_Aware_Delta_Net.concept_proj.weight"
X = torch.tensor([[3, 1, 4, 1, 5]])


@pytest.mark.parametrize("shard", ["1GB", "2KB"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_what_was_saved_comes_back(tmp_path: Path, dtype: torch.dtype, tied: bool, shard: str) -> None:
    model = tiny_hf(dtype=dtype, tie_word_embeddings=tied, window_size=3, trigger_rate=0.1)
    model.save_pretrained(tmp_path, max_shard_size=shard)
    assert len(list(tmp_path.glob("*.safetensors"))) in ([1] if shard == "1GB" else range(15, 45))
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert again.model.config == model.model.config
    assert again.dtype == dtype
    assert sha256(again.model) == sha256(model.model)
    assert (again.model.head.weight is again.model.embedding.weight) == tied
    if dtype == torch.float64:  # tensors that lie elsewhere in memory may round elsewhere
        assert error(again(X).logits, model(X).logits) <= 1e-12
    again.save_pretrained(tmp_path / "again", max_shard_size=shard)
    for file in tmp_path.glob("*.safetensors"):
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes()


@pytest.mark.parametrize("tied", [True, False])
def test_files_carry_the_authors_names(tmp_path: Path, tied: bool) -> None:
    model = tiny_hf(dtype=torch.float32, tie_word_embeddings=tied)
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    target = NirvanaLM(dataclasses.replace(model.model.config))
    load_published(target, tensors)
    assert sha256(target) == sha256(model.model)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "nirvana"


@pytest.mark.parametrize("shard", ["1GB", "2KB"])
def test_what_was_saved_can_be_imported(tmp_path: Path, shard: str) -> None:
    model = tiny_hf(dtype=torch.float32, window_size=3)
    model.save_pretrained(tmp_path / "saved", max_shard_size=shard)
    import_published(tmp_path / "saved", tmp_path / "backbone.safetensors", window_size=3)
    assert sha256(load_backbone(tmp_path / "backbone.safetensors")) == sha256(model.model)


@pytest.mark.parametrize("tied", [True, False])
def test_saved_tensors_can_be_loaded_into_a_model(tmp_path: Path, tied: bool) -> None:
    """As trainers resume: they hand the file's tensors to load_state_dict, and only warn of names that do not fit."""
    model, other = (tiny_hf(seed, torch.float32, tie_word_embeddings=tied) for seed in (1, 2))
    model.save_pretrained(tmp_path)
    found = other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert not found.missing_keys
    assert not found.unexpected_keys
    assert sha256(other.model) == sha256(model.model)
    third = tiny_hf(3, torch.float32, tie_word_embeddings=tied)
    third.load_state_dict(model.state_dict())
    assert sha256(third.model) == sha256(model.model)
    with pytest.raises(RuntimeError, match=r"Missing key.*model.norm.weight"):
        third.load_state_dict({})


def test_a_state_dict_may_be_given(tmp_path: Path) -> None:
    """As trainers do, which gather it from elsewhere."""
    model, other = tiny_hf(1, torch.float32), tiny_hf(2, torch.float32)
    model.save_pretrained(tmp_path, state_dict=other.state_dict())
    assert sha256(NirvanaForCausalLM.from_pretrained(tmp_path).model) == sha256(other.model)
    loaded = NirvanaForCausalLM.from_pretrained(None, config=other.config, state_dict=published_tensors(other))
    assert sha256(loaded.model) == sha256(other.model)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_the_dtype_can_be_chosen(tmp_path: Path, dtype: torch.dtype) -> None:
    folder = published(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert sha256(model.model) == sha256(tiny_model(1, torch.float32).to(dtype))
    assert not model.training


def test_options_of_transformers_work(tmp_path: Path) -> None:
    folder = published(tmp_path)
    model, info = AutoModelForCausalLM.from_pretrained(
        folder, device_map="cpu", attention_window=2, output_loading_info=True
    )
    assert model.model.config.window_size == 2
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]


def published(folder: Path, **changes: Any) -> Path:
    model = tiny_hf(dtype=torch.float32, pad_token_id=None, **changes)
    return write_published(folder, published_keys(model.model.config), published_tensors(model))


def harmed(folder: Path, harm: Callable[[dict[str, Tensor]], object], **changes: Any) -> Path:
    model = tiny_hf(dtype=torch.float32, **changes)
    tensors = {name: tensor.clone() for name, tensor in published_tensors(model).items()}
    harm(tensors)
    return write_published(folder, published_keys(model.model.config), tensors)


DAMAGE: dict[str, tuple[Callable[[dict[str, Tensor]], object], str]] = {
    "missing": (lambda t: t.pop(CONCEPT), rf"1 missing \({CONCEPT}\), 0 unexpected"),
    "no embedding": (lambda t: t.pop(EMBEDDING), rf"1 missing \({EMBEDDING}\)"),
    "unexpected": (lambda t: t.update({"extra.weight": torch.ones(2)}), r"1 unexpected \(extra.weight\)"),
    "another name": (lambda t: t.update({CONCEPT + "_": t.pop(CONCEPT)}), r"1 missing .*1 unexpected"),
    "misshapen": (lambda t: t.update({CONCEPT: t[CONCEPT].T}), rf"{CONCEPT} is \(16, 12\).*needs \(12, 16\)"),
    "vocabulary": (lambda t: t.update({EMBEDDING: torch.ones(30, 16)}), r"30 rows.*vocabulary has 29"),
    "not finite": (lambda t: t[CONCEPT].fill_(torch.nan), rf"{CONCEPT}.*finite"),
    "tied head": (lambda t: t.update({HEAD: t[EMBEDDING] + 1}), r"lm_head.weight differs.*tie_word_embeddings=False"),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("forgiving", [False, True])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, damage: str, forgiving: bool) -> None:
    harm, message = DAMAGE[damage]
    folder = harmed(tmp_path, harm)
    with pytest.raises(CheckpointError, match=message) as caught:
        AutoModelForCausalLM.from_pretrained(folder, ignore_mismatched_sizes=forgiving)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_tied_head_may_be_there_as_a_copy(tmp_path: Path) -> None:
    folder = harmed(tmp_path, lambda t: t.update({HEAD: t[EMBEDDING].clone()}))
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.model.head.weight is model.model.embedding.weight


def test_an_untied_model_needs_its_head(tmp_path: Path) -> None:
    folder = harmed(tmp_path, lambda t: t.pop(HEAD), tie_word_embeddings=False)
    with pytest.raises(CheckpointError, match=rf"1 missing \({HEAD}\)"):
        AutoModelForCausalLM.from_pretrained(folder)


def test_a_checkpoint_of_another_depth_is_refused(tmp_path: Path) -> None:
    shallow = published_keys(tiny_config(num_layers=3))
    folder = write_published(tmp_path, shallow, published_tensors(tiny_hf(dtype=torch.float32)))
    with pytest.raises(CheckpointError, match="0 missing, 30 unexpected"):
        AutoModelForCausalLM.from_pretrained(folder)


def test_a_value_too_large_for_the_dtype_is_refused(tmp_path: Path) -> None:
    folder = harmed(tmp_path, lambda t: t[CONCEPT].fill_(1e6))
    with pytest.raises(CheckpointError, match=rf"{CONCEPT}.*float16"):
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float16)


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    folder = published(tmp_path)
    (folder / "model.safetensors").unlink()
    torch.save(published_tensors(tiny_hf()), folder / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        AutoModelForCausalLM.from_pretrained(folder)


def test_impossible_targets_are_refused(tmp_path: Path) -> None:
    model = tiny_hf()
    (tmp_path / "taken").write_text("")
    with pytest.raises(UsageError, match="taken is a file; name a folder"):
        model.save_pretrained(tmp_path / "taken")
    with pytest.raises(UsageError, match=r"extra has no place.*merge_and_unload"):
        model.save_pretrained(tmp_path, state_dict=model.state_dict() | {"extra": torch.ones(1)})
