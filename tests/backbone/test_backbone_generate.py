"""Generation: the tokens of the plain loop that recomputes everything, drawn as asked, stopped row by row."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from backbone_support import noise, tiny_model
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nirvana_mri.backbone import NirvanaLM, budget
from nirvana_mri.backbone import generate as generation
from nirvana_mri.backbone.generate import Sampling, draw
from nirvana_mri.errors import DataError, NirvanaError, UsageError


def ids(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 29, shape, generator=torch.Generator().manual_seed(seed))


def the_authors_loop(model: NirvanaLM, x: Tensor, steps: int, mask: Tensor | None = None) -> Tensor:
    """The whole sequence and all its logits again for every token."""
    prompt = x.shape[1]
    for _ in range(steps):
        x = torch.cat([x, model(input_ids=x, attention_mask=mask).logits[:, -1:].argmax(-1)], dim=1)
        mask = None if mask is None else torch.cat([mask, mask.new_ones(mask.shape[0], 1)], dim=1)
    return x[:, prompt:]


@pytest.mark.parametrize("window", [None, 5, 64])
def test_greedy_equals_recomputing_everything(window: int | None) -> None:
    """Of a model with a head of its own: with tied embeddings a tiny one repeats its last token, whatever it read."""
    model, x = tiny_model(2, window_size=window, tie_word_embeddings=False, initializer_range=0.5), ids(3, 70)
    mask = torch.ones_like(x)
    mask[1, :66] = 0
    for given_mask in (None, mask):
        found = model.generate(input_ids=x, attention_mask=given_mask, max_new_tokens=15)
        assert all(len(row.unique()) >= 3 for row in found)
        assert torch.equal(found, the_authors_loop(model, x, 15, given_mask))


def test_the_prompt_is_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = tiny_model(window_size=9), ids(2, 50)
    mask = torch.ones_like(x)
    mask[0, :20] = 0
    whole = model.generate(input_ids=x, attention_mask=mask, max_new_tokens=9)
    monkeypatch.setattr(generation, "PREFILL", 16)
    assert torch.equal(model.generate(input_ids=x, attention_mask=mask, max_new_tokens=9), whole)


def test_vectors_or_ids_as_prompt() -> None:
    model, x = tiny_model(), ids(2, 9)
    from_ids = model.generate(input_ids=x, max_new_tokens=12, temperature=1.0, seed=3)
    from_vectors = model.generate(inputs_embeds=model.embedding(x), max_new_tokens=12, temperature=1.0, seed=3)
    assert torch.equal(from_ids, from_vectors)
    assert from_ids.shape == (2, 12)
    assert from_ids.dtype == torch.int64


def test_the_seed_decides() -> None:
    model, x = tiny_model(), ids(2, 9)
    first, again, other = (model.generate(input_ids=x, max_new_tokens=20, temperature=1.0, seed=s) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    same = model.generate(input_ids=x[:1].repeat(2, 1), max_new_tokens=20, temperature=1.0, seed=1)
    assert not torch.equal(same[0], same[1])  # rows draw for themselves
    torch.manual_seed(0)
    state = torch.get_rng_state()
    model.generate(input_ids=x, max_new_tokens=3, temperature=1.0)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    model, x = tiny_model(), ids(3, 9)
    together = model.generate(input_ids=x, max_new_tokens=20, temperature=1.0, seed=5)
    assert torch.equal(model.generate(input_ids=x[:1], max_new_tokens=20, temperature=1.0, seed=5), together[:1])


@pytest.mark.parametrize("padding_id", [None, 0])
def test_rows_stop_on_their_own(padding_id: int | None) -> None:
    model, x = tiny_model(pad_token_id=padding_id), ids(4, 9)
    free = model.generate(input_ids=x, max_new_tokens=30)
    stop = int(free[0, 4])
    first = [row.tolist().index(stop) if stop in row else 29 for row in free]
    assert len(set(first)) > 1
    stopped = model.generate(input_ids=x, max_new_tokens=30, stop_ids=[stop])
    assert stopped.shape[1] == max(first) + 1
    for row, end in enumerate(first):
        assert torch.equal(stopped[row, : end + 1], free[row, : end + 1])
        assert bool((stopped[row, end + 1 :] == (stop if padding_id is None else padding_id)).all())


def test_tokens_come_one_by_one() -> None:
    """Nothing is computed ahead of what is asked for."""
    model, x = tiny_model(), ids(2, 9)
    calls: list[int] = []
    model.register_forward_pre_hook(lambda *_: calls.append(1))
    steps = model.stream(input_ids=x, max_new_tokens=5)
    assert isinstance(steps, Iterator)
    assert len(calls) == 0
    first = next(steps)
    assert first.shape == (2,)
    assert len(calls) == 1
    rest = list(steps)
    assert len(calls) == 5
    assert torch.equal(torch.stack([first, *rest], dim=1), model.generate(input_ids=x, max_new_tokens=5))


def test_no_tokens_are_asked_for() -> None:
    assert tiny_model().generate(input_ids=ids(2, 9), max_new_tokens=0).shape == (2, 0)


LOGITS = torch.tensor([[2.0, 0.0, 1.0, -1.0, 1.0]])


def share(sampling: Sampling, draws: int = 20000) -> Tensor:
    """How often each token is drawn."""
    generators = Sampling(seed=sampling.seed).generators(draws)
    return torch.bincount(draw(LOGITS.repeat(draws, 1), sampling, generators), minlength=5) / draws


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_draws_follow_the_softmax(temperature: float) -> None:
    expected = (LOGITS[0] / temperature).softmax(-1)
    assert torch.allclose(share(Sampling(temperature)), expected, atol=0.015)


def test_top_k_keeps_the_likeliest() -> None:
    expected = torch.tensor([2.0, 0.0, 1.0, 0.0, 0.0]).exp() * torch.tensor([1, 0, 1, 0, 0])
    assert torch.allclose(share(Sampling(1.0, top_k=2)), expected / expected.sum(), atol=0.015)


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    kept = LOGITS[0].softmax(-1)  # 0.52, 0.07, 0.19, 0.03, 0.19
    for top_p, tokens in ((0.5, [0]), (0.6, [0, 2]), (0.75, [0, 2, 4]), (1.0, [0, 1, 2, 3, 4])):
        expected = torch.zeros(5)
        expected[tokens] = kept[tokens]
        assert torch.allclose(share(Sampling(1.0, top_p=top_p)), expected / expected.sum(), atol=0.015), top_p


@given(st.integers(1, 7), st.floats(0.01, 1), st.floats(1e-3, 1e3), st.integers(0, 99))
def test_only_likely_tokens_are_drawn(top_k: int, top_p: float, temperature: float, seed: int) -> None:
    """Whatever the settings, a token that they cut away never comes."""
    logits = noise(4, 11, seed=seed)
    sampling = Sampling(temperature, top_k, top_p, seed)
    drawn = draw(logits, sampling, sampling.generators(4))
    rank = (logits > logits.gather(1, drawn[:, None])).sum(1)
    assert int(rank.max()) < top_k
    if top_p < 1 / 11:
        assert int(rank.max()) == 0


def test_logits_that_are_not_finite_are_refused() -> None:
    model = tiny_model()
    model.norm.weight[3] = torch.nan
    with pytest.raises(DataError, match="logits are not finite"):
        model.generate(input_ids=ids(1, 3), max_new_tokens=2)


REFUSED: dict[str, tuple[dict[str, Any], type[NirvanaError], str]] = {
    "nothing": ({"input_ids": None}, UsageError, "got neither"),
    "both": ({"inputs_embeds": noise(1, 3, 16)}, UsageError, "got both"),
    "empty": ({"input_ids": ids(1, 0)}, UsageError, r"\(1, 0\)"),
    "vocabulary": ({"input_ids": torch.tensor([[0, 29]])}, DataError, "knows 0 to 28"),
    "tokens": ({"max_new_tokens": -1}, UsageError, "max_new_tokens is -1"),
    "temperature": ({"temperature": -0.5}, UsageError, "temperature is -0.5"),
    "not a temperature": ({"temperature": float("nan")}, UsageError, "temperature is nan"),
    "top_k": ({"top_k": 0}, UsageError, "top_k is 0"),
    "top_p": ({"top_p": 1.5}, UsageError, "top_p is 1.5"),
    "stop": ({"stop_ids": [29]}, UsageError, "0 to 28"),
    "padding on the right": ({"attention_mask": torch.tensor([[1, 1, 0]])}, UsageError, "on the left"),
    "mask": ({"attention_mask": torch.ones(1, 2)}, UsageError, r"\(1, 2\).*\(1, 3\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_arguments_that_cannot_work_are_refused_at_once(case: str) -> None:
    changes, kind, message = REFUSED[case]
    arguments = {"input_ids": ids(1, 3), "max_new_tokens": 2} | changes
    with pytest.raises(kind, match=message):
        tiny_model().generate(**arguments)


def test_a_prompt_longer_than_the_memory_is_refused_before_it_is_spent() -> None:
    """Tokens that cost nothing to name: one value, expanded."""
    model = tiny_model()
    endless = torch.zeros(1, 1, dtype=torch.long).expand(1, 10**12)
    with pytest.raises(DataError, match=r"1 x 1000000000000 tokens need at least .* GiB are free"):
        model(input_ids=endless)
    with pytest.raises(DataError, match=r"tokens need at least"):
        model.generate(input_ids=endless, max_new_tokens=1)


def test_the_budget_counts_the_window() -> None:
    config, bounded = tiny_model().config, tiny_model(window_size=100).config
    all_of_it = budget.least_bytes(config, 4, 1000, 0, cached=10**6)
    windowed = budget.least_bytes(bounded, 4, 1000, 0, cached=10**6)
    assert all_of_it - windowed == 4 * 2 * (10**6 - 100) * 16 * 2
    assert budget.least_bytes(config, 4, 10, 10, cached=0) == 4 * 10 * (3 * 24 + 2 * 16 + 29)
