"""The Hugging Face adapter's forward pass: the fixtures' numbers, its losses, caches and registration."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("transformers")

from backbone_support import DTYPES, PREFIX, TOLERANCE, Truth, error, noise, tiny_config
from hf_support import published_keys, published_tensors, tiny_hf, write_published
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, DynamicCache

from nirvana_mri.backbone.hf import NirvanaConfig, NirvanaForCausalLM, NirvanaModel
from nirvana_mri.errors import DataError, UsageError

CASES = [
    "case_i_short",
    "case_ii_long",
    "case_iii_embeds",
    "case_iv_window",
    "case_v_leftpad",
    "case_v2_leftpad_chunk",
]


def ids(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(3, 29, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_a_published_folder_gives_the_authors_numbers(
    shared_fixtures: Path, tmp_path: Path, name: str, dtype: torch.dtype
) -> None:
    case = Truth.read(shared_fixtures, name)
    folder = write_published(tmp_path / "authors", case.info["config"], case.under("param."))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attention_window=case.info["window_size_active"])
    assert isinstance(model, NirvanaForCausalLM)
    inputs, expected = case.under("in.", dtype), case.under(PREFIX[dtype] + ".")
    labels = inputs.pop("labels", None)
    with torch.no_grad():
        output = model(**inputs, output_hidden_states=True)
    assert error(output.logits, expected["logits"]) <= TOLERANCE[dtype]
    assert error(output.hidden_states[-1], expected["final_hidden"]) <= TOLERANCE[dtype]
    if dtype == torch.float64:
        assert error(output.hidden_states[0], expected["embeds"]) <= TOLERANCE[dtype]
        for index in range(3):
            assert error(output.hidden_states[index + 1], expected[f"layers.{index}.hidden"]) <= TOLERANCE[dtype]
    if labels is not None:
        loss = F.cross_entropy(output.logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
        assert error(loss, expected["loss_unshifted"]) <= TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_published_window_has_no_effect(shared_fixtures: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    case = Truth.read(shared_fixtures, "case_iv_window")
    assert case.info["config"]["window_size"] == 32
    folder = write_published(tmp_path, case.info["config"], case.under("param."))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    inputs = {key: value for key, value in case.under("in.", dtype).items() if key != "labels"}
    logits = model(**inputs).logits
    assert error(logits, case.under(PREFIX[dtype] + "_nowindow.")["logits"]) <= TOLERANCE[dtype]


def test_the_configuration_goes_both_ways() -> None:
    for config in (tiny_config(), tiny_config(window_size=7, trigger_rate=0.0, pad_token_id=2, norm_eps=1e-5)):
        assert NirvanaConfig.from_backbone(config).backbone() == config
        assert NirvanaConfig.from_dict(NirvanaConfig.from_backbone(config).to_dict()).backbone() == config


@pytest.mark.parametrize(
    "changes", [{"architecture": "delta"}, {"architecture": "attention"}, {"rotary": True}], ids=str
)
def test_a_baseline_has_no_form_of_the_authors(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="keep this model in a backbone file"):
        NirvanaConfig.from_backbone(tiny_config(**changes))


def test_a_published_configuration_without_the_cache_may_use_ours(tmp_path: Path) -> None:
    """The authors forbid their cache because it does not work; ours does, and generating without is 20x slower."""
    model = tiny_hf()
    keys = published_keys(model.model.config) | {"eos_token_id": 1}
    folder = write_published(tmp_path, keys, published_tensors(model))
    config = AutoConfig.from_pretrained(folder)
    assert type(config) is NirvanaConfig
    assert config.use_cache
    assert not hasattr(config, "auto_map")
    assert config.max_position_embeddings == 32768
    for loaded in (AutoModelForCausalLM.from_pretrained(folder), NirvanaForCausalLM.from_pretrained(folder)):
        assert loaded.generation_config.use_cache is not False
        assert loaded.generation_config.eos_token_id == 1
    assert not NirvanaConfig.from_backbone(tiny_config(), use_cache=False).use_cache


def test_missing_sizes_are_named() -> None:
    with pytest.raises(UsageError, match="lacks logit_dim"):
        NirvanaForCausalLM(NirvanaConfig(**{**NirvanaConfig.from_backbone(tiny_config()).to_dict(), "logit_dim": None}))
    with pytest.raises(UsageError, match="attention_bias"):
        NirvanaForCausalLM(NirvanaConfig.from_backbone(tiny_config(), attention_bias=True))


@pytest.mark.parametrize("tied", [True, False])
def test_logits_are_the_backbones(tied: bool) -> None:
    model, x = tiny_hf(tie_word_embeddings=tied), ids(2, 9)
    mask = torch.tensor([[0] * 3 + [1] * 6, [1] * 9])
    expected = model.model(input_ids=x, attention_mask=mask).logits
    output = model(x, attention_mask=mask)
    assert torch.equal(output.logits, expected)
    assert output.past_key_values is None  # gradients are on
    assert output.hidden_states is None
    for kept, places in ((2, [7, 8]), (torch.tensor([1, 4]), [1, 4])):
        assert error(model(x, attention_mask=mask, logits_to_keep=kept).logits, expected[:, places]) <= 1e-12
    assert torch.equal(model(x, attention_mask=mask, return_dict=False)[0], expected)
    vectors = model.get_input_embeddings()(x)
    assert torch.equal(model(inputs_embeds=vectors, attention_mask=mask).logits, expected)


def test_labels_are_shifted() -> None:
    model, x = tiny_hf(), ids(2, 9)
    labels = x.clone()
    labels[0, :4] = -100
    output = model(x, labels=labels)
    pairs = [(b, t) for b in range(2) for t in range(8) if labels[b, t + 1] != -100]
    assert len(pairs) == 13
    each = torch.stack([-output.logits[b, t].log_softmax(-1)[x[b, t + 1]] for b, t in pairs])
    assert error(output.loss, each.mean()) <= 1e-12
    assert error(model(x, labels=labels, num_items_in_batch=26).loss, each.sum() / 26) <= 1e-12
    output.loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_the_loss_of_a_bf16_model_is_float32() -> None:
    assert tiny_hf(dtype=torch.bfloat16)(ids(1, 9), labels=ids(1, 9)).loss.dtype == torch.float32


def test_a_cache_continues() -> None:
    """In the calling forms that transformers uses: the whole mask, or that of the new tokens."""
    model, x = tiny_hf(window_size=5), ids(2, 12)
    mask = torch.ones(2, 12, dtype=torch.long)
    mask[0, :3] = 0
    expected = model(x, attention_mask=mask).logits
    with torch.no_grad():
        first = model(x[:, :7], attention_mask=mask[:, :7])
        second = model(x[:, 7:8], attention_mask=mask[:, :8], past_key_values=first.past_key_values)
        third = model(x[:, 8:], attention_mask=mask[:, 8:], past_key_values=second.past_key_values)
    assert third.past_key_values is first.past_key_values
    assert third.past_key_values.get_seq_length() == 12
    found = torch.cat([first.logits, second.logits, third.logits], dim=1)
    assert error(found[1], expected[1]) <= 1e-12
    assert error(found[0, 3:], expected[0, 3:]) <= 1e-12
    with torch.no_grad():
        assert model(x, use_cache=False).past_key_values is None


def test_the_bare_model_gives_hidden_states(tmp_path: Path) -> None:
    model, x = tiny_hf(dtype=torch.float32), ids(2, 9)
    model.save_pretrained(tmp_path)
    bare = AutoModel.from_pretrained(tmp_path)
    assert type(bare) is NirvanaModel
    with torch.no_grad():
        output = bare(x, output_hidden_states=True)
        assert torch.equal(output.last_hidden_state, model.model(input_ids=x).final_hidden)
        assert output.past_key_values.tokens == 9
    assert len(output.hidden_states) == 5
    assert torch.equal(output.hidden_states[-1], output.last_hidden_state)
    bare.save_pretrained(tmp_path / "again")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "again")
    assert torch.equal(again(x).logits, model(x).logits)


def test_bad_input_is_refused() -> None:
    model, x = tiny_hf(), ids(2, 9)
    with pytest.raises(DataError, match="29; this model knows 0 to 28"):
        model(torch.full((1, 3), 29))
    with pytest.raises(UsageError, match="exactly one"):
        model()
    with pytest.raises(UsageError, match="attention_mask"):
        model(x, attention_mask=torch.ones(2, 8))
    with pytest.raises(UsageError, match=r"past_key_values is a DynamicCache.*new_cache"):
        model(x, past_key_values=DynamicCache())
    with pytest.raises(UsageError, match="holds 1 sequences, the input 2"):
        model(x, past_key_values=model.new_cache(1))
    with pytest.raises(UsageError, match="output_attentions"):
        model(x, output_attentions=True)
    with pytest.raises(UsageError, match="labels with a cache"):
        model(x, labels=x, use_cache=True)
    with pytest.raises(UsageError, match="logits_to_keep"):
        model(x, labels=x, logits_to_keep=1)
    with pytest.raises(UsageError, match="cannot go back to 3"):
        model.new_cache(1).crop(3)


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")  # the name before 5.22
def test_recomputation_gives_the_same_gradients() -> None:
    plain, saving = tiny_hf(), tiny_hf()
    saving.gradient_checkpointing_enable()
    assert saving.gradient_checkpointing
    runs = []
    saving.model.layers[0].mixer.register_forward_hook(lambda *_: runs.append(1))
    for model in (plain, saving):
        model.train()(ids(2, 9), labels=ids(2, 9)).loss.backward()
    assert len(runs) == 2
    for (name, a), b in zip(plain.named_parameters(), saving.parameters(), strict=True):
        assert error(b.grad, a.grad) <= 1e-12, name
    saving.gradient_checkpointing_disable()
    assert not saving.model.recompute


@pytest.mark.parametrize("tied", [True, False])
def test_the_vocabulary_can_grow(tied: bool, tmp_path: Path) -> None:
    model, x = tiny_hf(tie_word_embeddings=tied), ids(1, 9)
    before = model(x).logits
    model.resize_token_embeddings(31)
    logits = model(x).logits
    assert logits.shape == (1, 9, 31)
    assert error(logits[..., :29], before) <= 1e-12
    model(torch.tensor([[30]]))
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == tied
    model.save_pretrained(tmp_path)
    assert torch.equal(AutoModelForCausalLM.from_pretrained(tmp_path)(x).logits, logits)


def test_first_values_are_the_backbones() -> None:
    model = NirvanaForCausalLM(NirvanaConfig.from_backbone(tiny_config()))
    drawn = published_tensors(model)
    model.model.init_weights(0)
    assert all(torch.equal(drawn[name], tensor) for name, tensor in published_tensors(model).items())


IMPORTS = """
import sys, nirvana_mri.backbone
from nirvana_mri.errors import MissingExtraError
print("transformers" in sys.modules)
sys.modules["transformers"] = None
try:
    import nirvana_mri.backbone.hf
except MissingExtraError as error:
    print(error)
del sys.modules["transformers"]
sys.modules["torchvision"] = None
import nirvana_mri.backbone.hf
print("transformers" in sys.modules)
"""


@pytest.mark.slow
def test_what_is_imported_when() -> None:
    """The backbone needs no transformers, the adapter no torchvision, and a missing extra is named.

    Slow because a fresh interpreter imports torch and transformers.
    """
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True)
    before, missing, after = done.stdout.splitlines()
    assert (before, after) == ("False", "True")
    assert "pip install 'nirvana-mri[hf]'" in missing


def test_random_vectors_pass() -> None:
    """inputs_embeds carry gradients, as an encoder in front of the model needs."""
    model, x = tiny_hf().requires_grad_(False), noise(2, 5, 16).requires_grad_()
    model(inputs_embeds=x).logits.sum().backward()
    assert x.grad is not None
    assert x.grad.any()
