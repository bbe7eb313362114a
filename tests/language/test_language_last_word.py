"""Last words: which passages are drawn, what counts as a hit, and how sure a share is."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from language_support import SENTENCES, some_text, tiny_language_model, tiny_tokenizer, write_jsonl

from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.language.continuation import continuations, read_prompt, split, write_on
from nirvana_mri.language.last_word import BEFORE, WORDS, draw_passages, last_word, together
from nirvana_mri.language.load import LanguageModel
from nirvana_mri.language.protocol import wilson
from nirvana_mri.language.sentences import sentence_spans


def tiny_language(**changes: Any) -> LanguageModel:
    model = tiny_language_model(3, **({"initializer_range": 0.3} | changes)).double().requires_grad_(False).eval()
    return LanguageModel(model, tiny_tokenizer(), "tiny", "0" * 64)


def test_wilson_is_the_known_interval() -> None:
    """Newcombe, Stat. Med. 17 (1998), table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    for hits, trials, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611)):
        assert wilson(hits, trials) == pytest.approx((low, high), abs=6e-5)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=6e-5)
    assert wilson(20, 20)[1] == pytest.approx(1)
    assert wilson(0, 0) == (0, 1)


def test_sentences() -> None:
    text = 'One two. "Three four!" Five ... six 3.5 seven? \n\n Eight . rest'
    assert [text[start:stop] for start, stop in sentence_spans(text)] == [
        "One two.",
        '"Three four!"',
        "Five ...",
        "six 3.5 seven?",
        "Eight .",
    ]


def test_continuations_are_scored_as_in_one_pass() -> None:
    language = tiny_language()
    prompt, texts = [2, 50, 60, 70, 80], [[5, 6, 7], [9], [11, 12]]
    cache = read_prompt(language.model, prompt[:-1], piece=3)
    for text, found in zip(texts, continuations(language.model, cache, prompt[-1], texts), strict=True):
        scores = language.model(input_ids=torch.tensor([prompt + text])).logits[0].log_softmax(-1)
        expected = -sum(float(scores[len(prompt) - 1 + n, token]) for n, token in enumerate(text))
        assert found.nats == pytest.approx(expected, rel=1e-9)
    assert cache.tokens == 4
    written = write_on(language.model, cache, prompt[-1], 3)
    expected_ids = language.model.generate(input_ids=torch.tensor([prompt]), max_new_tokens=3)[0].tolist()
    assert written == expected_ids
    cache = read_prompt(language.model, prompt[:-1])
    right, wrong = continuations(language.model, cache, prompt[-1], [written, [*written[:2], written[2] ^ 1]])
    assert (right.likeliest, wrong.likeliest) == (True, False)


def test_split_keeps_all_tokens() -> None:
    tokenizer = tiny_tokenizer()
    prompt, word = split(tokenizer, "The magnet hums while the", " patient")
    assert prompt + word == tokenizer.encode("The magnet hums while the patient")
    assert tokenizer.decode(word) == " patient"


def test_passages_drawn_from_text_ask_for_words_seen_before() -> None:
    text = some_text(300)
    passages = draw_passages(text, 40, seed=1)
    assert len(passages) == 40
    assert passages == draw_passages(text, 40, seed=1)
    assert passages != draw_passages(text, 40, seed=2)
    for passage in passages:
        assert f"{passage.context} {passage.word}." in text
        assert passage.word in passage.context.split()[:-1] or f"{passage.word}." in passage.context
        assert WORDS[0] <= len(passage.context.split()) <= WORDS[1]
        assert len(sentence_spans(passage.context)) == BEFORE


def test_documents_are_passages(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [*SENTENCES, "a cat saw\na cat"])
    passages = draw_passages(path, 99, seed=0)
    assert [passage.word for passage in passages] == ["still", "time", "missing", "full", "waved", "cat"]
    assert passages[-1].context == "a cat saw\na"
    assert len(draw_passages(path, 2, seed=0)) == 2


def test_a_hit_is_the_word_that_the_model_would_write(tmp_path: Path) -> None:
    """The model's own continuations are its hits; a hit by chance elsewhere is all but impossible."""
    language = tiny_language()
    prompt = [language.tokenizer.end_id, *language.tokenizer.encode("The magnet hums")]
    (score,) = continuations(language.model, read_prompt(language.model, prompt[:-1]), prompt[-1], [[263]])
    path = write_jsonl(tmp_path / "a.jsonl", ["The magnet hums while", "A coil"])
    found = last_word(language, path)
    assert (found.passages, found.protocol.rule["trials"]) == (2, 200)
    words = []
    for text, word in (("The magnet hums", " while"), ("A", " coil")):
        front, target = split(language.tokenizer, text, word)
        ids = torch.tensor([[language.tokenizer.end_id, *front, *target]])
        scores = language.model(input_ids=ids).logits[0].log_softmax(-1)[-1 - len(target) : -1]
        words.append(-float(scores.gather(1, torch.tensor(target)[:, None]).sum()))
    assert found.target_perplexity == pytest.approx(math.exp(sum(words) / 2), rel=1e-6)
    assert score.nats > 0
    both = together({"a": found, "b": found})
    assert (both.passages, both.nats) == (4, pytest.approx(found.nats))


def test_a_model_that_always_says_one_token_hits_that_word(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    (token,) = split(tokenizer, "and", " the")[1]
    language = tiny_language(tie_word_embeddings=False)
    assert language.model.head is not None
    language.model.norm.weight.zero_()
    language.model.head.weight.zero_()
    forward = language.model.forward

    def biased(*arguments: Any, **options: Any) -> Any:
        output = forward(*arguments, **options)
        if output.logits is not None:
            output.logits[..., token] += 1
        return output

    language.model.forward = biased  # type: ignore[method-assign]
    path = write_jsonl(tmp_path / "a.jsonl", ["one and the", "one and two"])
    score = last_word(language, path)
    assert (score.passages, score.hits, score.accuracy) == (2, 1, 0.5)
    assert score.as_dict()["interval"] == list(wilson(1, 2))


def test_what_cannot_be_asked(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no passage of 6 sentences"):
        last_word(tiny_language(), "One sentence alone.")
    with pytest.raises(UsageError, match="trials is 0"):
        last_word(tiny_language(), some_text(), trials=0)
    with pytest.raises(DataError, match="document 2 is 'Word'"):
        last_word(tiny_language(), write_jsonl(tmp_path / "a.jsonl", ["two words", "Word"]))
    mixed = {"a": last_word(tiny_language(), some_text(), trials=2)}
    mixed["b"] = last_word(tiny_language(), write_jsonl(tmp_path / "b.jsonl", ["two words"]), trials=2)
    with pytest.raises(UsageError, match="different rules"):
        together(mixed)
