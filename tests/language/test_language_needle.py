"""Needles: prompts of exact length with the needle where they say, a perfect memory and none at all."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from language_support import some_text, tiny_language_model, tiny_tokenizer
from torch import Tensor

from nirvana_mri.backbone import BackboneConfig, Cache, NirvanaLM, NirvanaOutput
from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.language.load import LanguageModel
from nirvana_mri.language.needle import NEEDLE, QUESTION, Haystack, needle_prompt
from nirvana_mri.language.needle_score import CHANCE, needle_in_haystack
from nirvana_mri.language.protocol import wilson

TOKENIZER = tiny_tokenizer()


def tiny_language(**changes: Any) -> LanguageModel:
    model = tiny_language_model(3, **({"initializer_range": 0.3} | changes)).requires_grad_(False).eval()
    return LanguageModel(model, TOKENIZER, "tiny", "0" * 64)


@pytest.fixture
def story(tmp_path: Path) -> Path:
    path = tmp_path / "story.txt"
    path.write_text(some_text(400))
    return path


@pytest.mark.parametrize("depth", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("length", [140, 300, 301, 2000])
@pytest.mark.parametrize("file", [False, True])
def test_a_prompt_is_as_long_as_asked_and_holds_the_needle_once(
    story: Path, length: int, depth: float, file: bool
) -> None:
    haystack = Haystack(TOKENIZER, story if file else None, length)
    prompt = needle_prompt(haystack, length, depth, 7, random.Random(length))
    assert len(prompt.ids) == length
    assert prompt.ids[0] == TOKENIZER.end_id
    needle = NEEDLE.format(word=prompt.word, number=prompt.number)
    found = TOKENIZER.decode(prompt.ids[prompt.place : prompt.place + prompt.needle_tokens])
    assert found == f" {needle}"
    text = TOKENIZER.decode(prompt.ids)
    assert text.count(needle) == text.count(prompt.number) == 1
    assert text.endswith(f" {QUESTION.format(word=prompt.word)}")
    assert TOKENIZER.decode(prompt.answer) == f" {prompt.number}"
    assert TOKENIZER.encode(text) == list(prompt.ids[1:])
    assert TOKENIZER.encode(f"{text} {prompt.number}") == [*prompt.ids[1:], *prompt.answer]
    numbers = {TOKENIZER.decode(ids).strip() for ids in (prompt.answer, *prompt.distractors)}
    assert len(numbers) == 10
    assert {len(number) for number in numbers} == {7}
    room = length - prompt.needle_tokens
    assert abs(prompt.place / room - depth) < 0.15 or length < 2000


def test_the_seed_decides_the_prompt() -> None:
    haystack = Haystack(TOKENIZER)
    first, again, other = (needle_prompt(haystack, 300, 0.5, 5, random.Random(seed)) for seed in (1, 1, 2))
    assert first == again
    assert first.number != other.number


class Copier(NirvanaLM):
    """Writes what followed the longest match of all so far with anything before; its cache holds every token."""

    def new_cache(self, batch_size: int) -> Any:
        return Seen(self.config, batch_size)

    def forward(self, input_ids: Tensor, cache: Any, **options: Any) -> NirvanaOutput:  # type: ignore[override]
        vocabulary = self.config.vocab_size
        logits = torch.zeros(*input_ids.shape, vocabulary)
        for row, new in enumerate(input_ids.tolist()):
            for place, token in enumerate(new):
                cache.rows[row].append(token)
                logits[row, place, self.follows(cache.rows[row])] = 9.0
        if options.get("last_logits_only"):
            logits = logits[:, -1:]
        return NirvanaOutput(torch.zeros(*input_ids.shape, 1), logits, None)

    def follows(self, seen: list[int]) -> int:
        """The token after the longest match of the end with anything before."""
        best, answer = 0, 0
        for stop in range(1, len(seen)):
            match = 0
            while match < stop and seen[stop - 1 - match] == seen[-1 - match]:
                match += 1
            if match >= best and match:
                best, answer = match, seen[stop]
        return answer


class Seen(Cache):
    def __init__(self, config: BackboneConfig, batch: int) -> None:
        super().__init__(config, batch)
        self.rows: list[list[int]] = [[] for _ in range(batch)]

    def reorder(self, rows: Tensor) -> None:
        self.rows = [list(self.rows[row]) for row in rows.tolist()]


@pytest.mark.parametrize("depth", [0.0, 1.0])
def test_a_model_that_copies_the_needle_finds_it(depth: float) -> None:
    language = replace(tiny_language(), model=Copier(tiny_language().model.config))
    score = needle_in_haystack(language, lengths=(220,), depths=(depth,), trials=2).as_dict()
    assert score["accuracy"] == score["choice_accuracy"] == {"220": {str(depth): 1.0}}
    assert score["intervals"]["accuracy"]["220"][str(depth)] == list(wilson(2, 2))


class Guesser(Copier):
    """Says anything. (Random weights do not: they favour the tokens that were there.)"""

    def forward(self, input_ids: Tensor, cache: Any, **options: Any) -> NirvanaOutput:  # type: ignore[override]
        output = super().forward(input_ids, cache, **options)
        assert output.logits is not None
        return NirvanaOutput(output.final_hidden, torch.randn(output.logits.shape, generator=self.dice), None)

    def follows(self, seen: list[int]) -> int:
        return 0


def test_a_model_that_guesses_is_near_chance() -> None:
    guesser = Guesser(tiny_language().model.config)
    guesser.dice = torch.Generator().manual_seed(0)  # type: ignore[assignment]
    language = replace(tiny_language(), model=guesser)
    score = needle_in_haystack(language, lengths=(150,), depths=(0.5,), trials=40)
    (cell,) = score.cells
    low, high = wilson(cell.chosen, cell.trials)
    assert low < CHANCE < high
    assert cell.written == 0
    values = score.as_dict()
    assert (values["task"], values["chance"], values["trials"]) == ("niah", 0.1, 40)


def test_long_prompts_leave_a_cache_no_larger() -> None:
    score = needle_in_haystack(tiny_language(), lengths=(200, 3000), depths=(0.5,), trials=1).as_dict()
    assert score["cache_bytes"]["200"] == score["cache_bytes"]["3000"]
    assert list(score["accuracy"]) == ["200", "3000"]


def test_a_tie_is_no_choice() -> None:
    language = tiny_language()
    language.model.embedding.weight.zero_()
    score = needle_in_haystack(language, lengths=(150,), depths=(0.5,), trials=2)
    assert score.cells[0].chosen == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lengths": (50,)}, "needle and question alone take"),
        ({"lengths": (0,)}, "lengths are"),
        ({"lengths": (300, 300)}, "lengths are"),
        ({"depths": (1.5,)}, "depths are"),
        ({"depths": (float("nan"),)}, "depths are"),
        ({"trials": 0}, "trials is 0"),
        ({"digits": 1}, "digits is 1"),
    ],
)
def test_numbers_that_cannot_be(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        needle_in_haystack(tiny_language(), **options)


def test_unusable_haystacks_and_weights(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(some_text(9))
    with pytest.raises(DataError, match=r"a.txt: about \d+ tokens of text, the haystack needs"):
        needle_in_haystack(tiny_language(), lengths=(3000,), data=path)
    path.write_text("no full stop")
    with pytest.raises(DataError, match="holds no sentence"):
        needle_in_haystack(tiny_language(), data=path)
    language = tiny_language()
    language.model.norm.weight.fill_(torch.nan)
    with pytest.raises(DataError, match="not finite"):
        needle_in_haystack(language, lengths=(150,), depths=(0.5,), trials=1)
