"""The tokenizer: any text comes back, marks stay text, files that do not belong are refused."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from language_support import some_text, tiny_tokenizer

from nirvana_mri.backbone.tokenizer import (
    SPECIAL,
    load_tokenizer,
    require_fit,
    save_tokenizer,
    train_tokenizer,
)
from nirvana_mri.errors import CheckpointError, UsageError


@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back(text: str) -> None:
    words = tiny_tokenizer()
    assert words.decode(words.encode(text)) == text


@pytest.mark.parametrize(
    "text", ["</s>", "a <unk> b", "<s></s>", "naïve \r\n\n  tab\t 1,234 @-@ \x01 \N{GRINNING FACE}"]
)
def test_marks_in_a_text_stay_text(text: str) -> None:
    words = tiny_tokenizer()
    ids = words.encode(text)
    assert words.decode(ids) == text
    assert not set(ids) & set(range(len(SPECIAL)))


def test_marks_have_the_ids_of_the_published_model() -> None:
    words = tiny_tokenizer()
    assert words.end_id == 2
    assert words.decode([words.end_id]) == ""


def test_the_same_text_gives_the_same_tokenizer() -> None:
    again = train_tokenizer([some_text()], 320)
    assert again.sha256 == tiny_tokenizer().sha256
    assert again.vocab_size == 320
    assert train_tokenizer([some_text(start=3)], 330).sha256 != again.sha256


def test_merges_shorten_what_they_were_learned_from() -> None:
    text = some_text()
    assert len(tiny_tokenizer().encode(text)) < 0.7 * len(text)


def test_digits_are_single_tokens() -> None:
    words = train_tokenizer(["1234 1234 1234 1234"] * 20, 300)
    assert [words.decode([token]) for token in words.encode("1234")] == ["1", "2", "3", "4"]


def test_a_file_and_a_folder_give_the_tokenizer_back(tmp_path: Path) -> None:
    save_tokenizer(tiny_tokenizer(), tmp_path / "tokenizer.json")
    for place in (tmp_path, tmp_path / "tokenizer.json"):
        assert load_tokenizer(place).sha256 == tiny_tokenizer().sha256


def test_a_sentencepiece_model_is_read(tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    (tmp_path / "corpus.txt").write_text(some_text())
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "corpus.txt"),
        model_prefix=str(tmp_path / "tokenizer"),
        vocab_size=90,
        model_type="bpe",
        minloglevel=2,
    )
    words = load_tokenizer(tmp_path)
    text = "The magnet hums while the patient lies still."
    assert words.decode(words.encode(text)) == text
    assert words.vocab_size == 90
    assert words.end_id == 2


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("tokenizer.json", b"{}", CheckpointError),
        ("tokenizer.json", b"\xff\xfe", CheckpointError),
        ("tokenizer.model", b"no model", CheckpointError),
        ("other.txt", b"", UsageError),
    ],
)
def test_what_is_no_tokenizer_is_refused(tmp_path: Path, name: str, content: bytes, error: type[Exception]) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=str(tmp_path)):
        load_tokenizer(tmp_path)


def test_a_tokenizer_that_does_not_match_is_refused() -> None:
    words = tiny_tokenizer()
    require_fit(words, 320, words.sha256)
    require_fit(words, 32000, None)
    with pytest.raises(UsageError, match="does not match"):
        require_fit(words, 320, "0" * 64)
    with pytest.raises(UsageError, match="320 tokens"):
        require_fit(words, 300, None)


def test_a_vocabulary_smaller_than_the_bytes_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 259"):
        train_tokenizer(["text"], 100)
