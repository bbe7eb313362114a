"""Perplexity: the same number however the text is cut, and every token and byte of it counted."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from language_support import SENTENCES, some_text, tiny_language_model, tiny_tokenizer, write_jsonl

from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.language import blocks, documents
from nirvana_mri.language.blocks import longest_start, read_blocks
from nirvana_mri.language.load import LanguageModel
from nirvana_mri.language.perplexity import BIN, combined, perplexity


def tiny_language(**changes: Any) -> LanguageModel:
    model = tiny_language_model(3, **({"initializer_range": 0.3} | changes)).double().requires_grad_(False).eval()
    return LanguageModel(model, tiny_tokenizer(), "tiny", "0" * 64)


def expected_losses(language: LanguageModel, text: str) -> torch.Tensor:
    """One full forward pass, without a cache."""
    ids = torch.tensor([language.tokenizer.end_id, *language.tokenizer.encode(text)])
    logits = language.model(input_ids=ids[None, :-1]).logits[0]
    return F.cross_entropy(logits, ids[1:], reduction="none")


TEXT = some_text(12)


@pytest.mark.parametrize("piece", [37, 1024])
def test_one_pass_is_the_full_forward_pass_whatever_the_pieces(piece: int) -> None:
    language = tiny_language()
    losses = expected_losses(language, TEXT)
    score = perplexity(language, TEXT, piece=piece)
    assert score.tokens == len(losses)
    assert score.bytes == len(TEXT.encode())
    assert score.loss == pytest.approx(float(losses.mean()), rel=1e-6)
    assert score.bits_per_byte == pytest.approx(float(losses.sum()) / math.log(2) / len(TEXT.encode()), rel=1e-6)
    assert score.perplexity == pytest.approx(math.exp(float(losses.mean())), rel=1e-6)


def test_losses_by_position_and_a_cache_that_stops_growing() -> None:
    language = tiny_language()
    text = some_text(150)
    losses = expected_losses(language, text)
    score = perplexity(language, text)
    assert len(score.bins) == math.ceil(len(losses) / BIN) >= 3
    for part, expected in zip(score.bins, losses.split(BIN), strict=True):
        assert part.tokens == len(expected)
        assert part.nats == pytest.approx(float(expected.sum()), rel=1e-6)
    assert len({part.cache_bytes for part in score.bins}) == 1
    assert score.bins[0].cache_bytes > 0
    assert all(part.seconds > 0 for part in score.bins)


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_that_knows_nothing_has_the_perplexity_of_its_vocabulary(tied: bool) -> None:
    language = tiny_language(tie_word_embeddings=tied)
    head = language.model.embedding if language.model.head is None else language.model.head
    head.weight.zero_()
    assert perplexity(language, TEXT).perplexity == pytest.approx(language.model.config.vocab_size, rel=1e-6)


def test_a_window_as_long_as_the_text_is_the_full_pass() -> None:
    language = tiny_language(window_size=None)
    losses = expected_losses(language, TEXT)
    score = perplexity(language, TEXT, context=len(losses) + 5)
    assert score.loss == pytest.approx(float(losses.mean()), rel=1e-6)
    assert {part.cache_bytes for part in score.bins} == {0}


@pytest.mark.parametrize("stride", [5, 12])
def test_sliding_scores_the_last_tokens_of_each_window(stride: int) -> None:
    language, context = tiny_language(window_size=None), 12
    ids = [language.tokenizer.end_id, *language.tokenizer.encode(some_text(2))]
    total, reached = 0.0, 0
    while reached < len(ids) - 1:
        stop = min(reached + (stride if reached else context), len(ids) - 1)
        begin = max(0, stop - context)
        logits = language.model(input_ids=torch.tensor([ids[begin:stop]])).logits[0]
        losses = F.cross_entropy(logits, torch.tensor(ids[begin + 1 : stop + 1]), reduction="none")
        total += float(losses[reached - stop :].sum())
        reached = stop
    score = perplexity(language, some_text(2), context=context, stride=stride)
    assert (score.tokens, score.nats) == (reached, pytest.approx(total, rel=1e-6))
    assert score.protocol.rule["stride"] == stride
    assert perplexity(language, "a b", context=20).protocol.rule["stride"] == 10


def test_every_document_starts_from_an_empty_memory(tmp_path: Path) -> None:
    language = tiny_language()
    path = write_jsonl(tmp_path / "a.jsonl", [some_text(8), "", some_text(5, 3)])
    score = perplexity(language, path)
    alone = [expected_losses(language, text) for text in (some_text(8), some_text(5, 3))]
    assert score.nats == pytest.approx(sum(float(losses.sum()) for losses in alone), rel=1e-6)
    assert (score.documents, score.tokens) == (2, sum(len(losses) for losses in alone))
    together = combined({"a": score, "b": score})
    assert (together.tokens, together.bytes, together.documents) == (2 * score.tokens, 2 * score.bytes, 4)
    assert (together.loss, together.bits_per_byte) == pytest.approx((score.loss, score.bits_per_byte))
    other = replace(score, protocol=replace(score.protocol, rule={}))
    with pytest.raises(UsageError, match="different rules"):
        combined({"a": score, "b": other})


@given(
    parts=st.lists(st.sampled_from([*SENTENCES, "\n", "\n\n", " \n", "  a", "é!", "...\n", " 12", "'s"]), min_size=1),
    size=st.integers(1, 99),
)
def test_blocks_have_the_tokens_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str], size: int
) -> None:
    text = "A" + "".join(parts)
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_text(text, encoding="utf-8", newline="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "BLOCK", size)
        patch.setattr(blocks, "LONGEST", 64)
        found = list(read_blocks(path))
    assert "".join(block.text for block in found) == text
    assert [block.ends for block in found] == [False] * (len(found) - 1) + [True]
    if max(len(block.text) for block in found) < 256:  # else a word of endless length was cut
        tokens = [token for block in found for token in tiny_tokenizer().encode(block.text)]
        assert tokens == tiny_tokenizer().encode(text)


@pytest.mark.parametrize("limit", [1, 50, 10**6])
def test_a_limit_ends_the_text_and_counts_what_was_read(tmp_path: Path, limit: int) -> None:
    language = tiny_language()
    text = some_text(20) + "é€\N{GRINNING FACE}"
    kept = longest_start(language.tokenizer, text, limit)
    assert text.startswith(kept)
    assert len(language.tokenizer.encode(kept)) == min(limit, len(language.tokenizer.encode(text)))
    path = tmp_path / "a.txt"
    path.write_text(text, encoding="utf-8")
    score = perplexity(language, path, limit=limit)
    assert (score.tokens, score.bytes) == (len(language.tokenizer.encode(kept)), len(kept.encode()))
    assert score.nats == pytest.approx(float(expected_losses(language, kept).sum()), rel=1e-6)


def test_progress_ends_at_its_total(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(TEXT)
    seen: list[tuple[int, int]] = []
    perplexity(tiny_language(), path, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (path.stat().st_size, path.stat().st_size)
    perplexity(tiny_language(), path, limit=9, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (9, 9)


def test_the_protocol_says_the_rule_and_the_model() -> None:
    language = tiny_language()
    score = perplexity(language, TEXT).as_dict()
    found = score["protocol"]
    assert (found["model_sha256"], found["tokenizer_sha256"]) == (language.sha256, language.tokenizer.sha256)
    assert found["parameters"] == sum(p.numel() for p in language.model.parameters())
    assert found["rule"]["first_token"] == "predicted after the end-of-document token"
    assert found["hash"] != perplexity(language, TEXT, context=900).protocol.hash
    assert score["loss_nats_per_token"] == pytest.approx(math.log(score["perplexity"]))
    assert [part["start"] for part in score["by_position"]] == [0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"context": 0}, "context is 0; expected at least 1"),
        ({"limit": 0}, "limit is 0"),
        ({"stride": 3}, "stride is 3, context None"),
        ({"context": 3, "stride": 4}, "stride is 4, context 3"),
    ],
)
def test_numbers_that_cannot_be(options: dict[str, int], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        perplexity(tiny_language(), TEXT, **options)


def test_unusable_texts_and_weights(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the text is empty"):
        perplexity(tiny_language(), " \n")
    with pytest.raises(DataError, match="has no tokens to score"):
        perplexity(tiny_language(), write_jsonl(tmp_path / "a.jsonl", ["", ""]))
    with pytest.raises(DataError, match="no tokens to score within a limit of 1"):
        perplexity(tiny_language(), "\N{GRINNING FACE}", limit=1)
    language = tiny_language()
    language.model.embedding.weight[5] = torch.nan
    with pytest.raises(DataError, match="the loss is nan"):
        perplexity(language, TEXT)
