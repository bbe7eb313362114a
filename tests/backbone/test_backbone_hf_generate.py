"""transformers' generate over the backbone's cache: the same tokens with it, without it, and from our own loop."""

from typing import Any

import pytest
import torch

pytest.importorskip("transformers")

from hf_support import tiny_hf, tiny_tokenizer
from torch import Tensor
from transformers import TextIteratorStreamer, pipeline

from nirvana_mri.backbone.hf import NirvanaCache, NirvanaForCausalLM
from nirvana_mri.errors import DataError

NEW = 12


def prompt(rows: int = 3, tokens: int = 9) -> Tensor:
    return torch.randint(3, 29, (rows, tokens), generator=torch.Generator().manual_seed(4))


def padded(x: Tensor) -> Tensor:
    """A mask that leaves out as many tokens on the left as the row's number; the last row stays whole."""
    mask = torch.ones_like(x)
    for row in range(x.shape[0] - 1):
        mask[row, : row + 2] = 0
    return mask


@pytest.fixture(scope="module")
def model() -> NirvanaForCausalLM:
    """A window shorter than the text, so that the cache drops keys; eos never comes, so that all rows run on."""
    model = tiny_hf(window_size=5)
    model.generation_config.eos_token_id = None
    return model


def generate(model: NirvanaForCausalLM, x: Tensor, **options: Any) -> Tensor:
    torch.manual_seed(7)
    options = {"attention_mask": padded(x), "max_new_tokens": NEW, "do_sample": False} | options
    return model.generate(x, **options)


def test_greedy_is_ours_token_by_token(model: NirvanaForCausalLM) -> None:
    x = prompt()
    expected = model.model.generate(input_ids=x, attention_mask=padded(x), max_new_tokens=NEW)
    found = generate(model, x)
    assert torch.equal(found[:, : x.shape[1]], x)
    assert torch.equal(found[:, x.shape[1] :], expected)
    assert len({tuple(row.tolist()) for row in expected}) == 3


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"do_sample": True, "temperature": 2.0, "top_k": 0},
        {"do_sample": True, "top_p": 0.8, "num_return_sequences": 2},
        {"num_beams": 3},
        {"num_beams": 4, "num_return_sequences": 2, "do_sample": True},
        {"repetition_penalty": 2.0},
    ],
    ids=str,
)
def test_the_cache_changes_nothing(model: NirvanaForCausalLM, options: dict[str, Any], monkeypatch: Any) -> None:
    widths: list[int] = []
    forward = model.forward

    def spy(**inputs: Any) -> Any:
        widths.append(inputs["input_ids"].shape[1])
        return forward(**inputs)

    without = generate(model, prompt(), use_cache=False, **options)
    monkeypatch.setattr(model, "forward", spy)
    monkeypatch.setattr(type(model), "_supports_logits_to_keep", lambda self: True)
    with_cache = generate(model, prompt(), use_cache=True, **options)
    assert torch.equal(with_cache, without)
    assert widths == [9] + [1] * (NEW - 1)


def test_padding_does_not_count(model: NirvanaForCausalLM) -> None:
    x = prompt()
    together = generate(model, x)
    for row in range(2):
        alone = generate(model, x[row : row + 1, row + 2 :], attention_mask=None)
        assert torch.equal(together[row, row + 2 :], alone[0])


def test_vectors_can_begin(model: NirvanaForCausalLM) -> None:
    x = prompt()
    vectors = model.get_input_embeddings()(x).detach()
    options = {"attention_mask": padded(x), "max_new_tokens": NEW, "do_sample": False}
    assert torch.equal(model.generate(inputs_embeds=vectors, **options), generate(model, x)[:, x.shape[1] :])
    beams = model.generate(inputs_embeds=vectors, num_beams=2, **options)
    assert torch.equal(beams, generate(model, x, num_beams=2)[:, x.shape[1] :])


def test_a_finished_row_is_padded() -> None:
    model, x = tiny_hf(), prompt()
    free = generate(model, x, eos_token_id=None)[:, x.shape[1] :]
    stop = int(free[0, 3])
    found = generate(model, x, eos_token_id=stop)[:, x.shape[1] :]
    expected = model.model.generate(input_ids=x, attention_mask=padded(x), max_new_tokens=NEW, stop_ids=(stop,))
    assert torch.equal(found, expected)
    end = free[0].tolist().index(stop)
    assert (found[0, end + 1 :] == 0).all()


def test_a_returned_cache_goes_on(model: NirvanaForCausalLM) -> None:
    x = prompt()
    whole = generate(model, x)
    first = generate(model, x, max_new_tokens=5, return_dict_in_generate=True)
    cache = first.past_key_values
    assert isinstance(cache, NirvanaCache)
    assert cache.tokens == 9 + 5 - 1
    mask = torch.cat([padded(x), torch.ones(3, 5, dtype=torch.long)], dim=1)
    rest = generate(model, first.sequences, attention_mask=mask, max_new_tokens=NEW - 5, past_key_values=cache)
    assert torch.equal(rest, whole)


def test_a_prompt_can_be_read_in_pieces(model: NirvanaForCausalLM) -> None:
    x = prompt()
    found = generate(model, x, prefill_chunk_size=4, past_key_values=model.new_cache(3))
    assert torch.equal(found, generate(model, x))


def test_one_prompt_can_be_read_once_for_several(model: NirvanaForCausalLM) -> None:
    x = prompt(1)
    cache = model.new_cache(1)
    with torch.no_grad():
        model(x[:, :-1], past_key_values=cache)
    cache.batch_repeat_interleave(3)
    found = generate(model, x.expand(3, -1), attention_mask=None, past_key_values=cache)
    assert torch.equal(found, generate(model, x, attention_mask=None).expand(3, -1))


def test_scores_and_hidden_states_come_along(model: NirvanaForCausalLM) -> None:
    x = prompt()
    found = generate(model, x, return_dict_in_generate=True, output_logits=True, output_hidden_states=True)
    logits = model(found.sequences[2:, :-1]).logits[0, 8:]
    for step in range(NEW):
        assert (found.logits[step][2] - logits[step]).abs().max() <= 1e-4  # transformers keeps them in float32
    assert [len(step) for step in found.hidden_states] == [5] * NEW


def test_text_streams() -> None:
    model, tokenizer = tiny_hf(), tiny_tokenizer()
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True)
    inputs = tokenizer(["a b c d"], return_tensors="pt", return_token_type_ids=False)
    found = model.generate(**inputs, streamer=streamer, max_new_tokens=NEW, do_sample=False, eos_token_id=None)
    assert "".join(streamer).split() == tokenizer.decode(found[0, 4:]).split()


def test_the_text_pipeline_runs() -> None:
    writer = pipeline("text-generation", model=tiny_hf(), tokenizer=tiny_tokenizer())
    found = writer(["a b c", "d"], max_new_tokens=4, do_sample=False, batch_size=2)
    assert [len(row) for row in found] == [1, 1]
    assert found[0][0]["generated_text"].startswith("a b c")


def test_what_a_recurrent_state_cannot_do_is_refused(model: NirvanaForCausalLM) -> None:
    with pytest.raises(ValueError, match="assisted generation is not supported with stateful models"):
        generate(model, prompt(1), attention_mask=None, prompt_lookup_num_tokens=2)


def test_foreign_tokens_are_refused(model: NirvanaForCausalLM) -> None:
    with pytest.raises(DataError, match="29; this model knows 0 to 28"):
        generate(model, torch.full((1, 3), 29), attention_mask=None)
