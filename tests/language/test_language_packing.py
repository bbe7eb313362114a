"""Rows: every token predicted once, sources in step, the same from any place on."""

from pathlib import Path

import numpy as np
import pytest
from language_support import some_text, tiny_tokenizer, write_jsonl

from nirvana_mri.errors import CheckpointError, DataError
from nirvana_mri.language.packing import PackedText, Source

LENGTH = 16


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    (tmp_path / "a.txt").write_text(some_text(120))
    return [tmp_path / "a.txt", write_jsonl(tmp_path / "b.jsonl", [some_text(4, n) for n in range(12)])]


def test_rows_hold_every_token_of_the_documents_in_order(files: list[Path]) -> None:
    words = tiny_tokenizer()
    source = Source(files[1])
    expected = [token for n in range(12) for token in [*words.encode(some_text(4, n)), words.end_id]]
    rows = [source.row(LENGTH, words) for _ in range(len(expected) // LENGTH)]
    assert [token for row in rows for token in row[:-1]] == expected[: len(rows) * LENGTH]
    assert [row[-1] for row in rows[:-1]] == [row[0] for row in rows[1:]]


def test_sources_are_read_at_one_pace(files: list[Path]) -> None:
    text = PackedText(files, tiny_tokenizer(), LENGTH, buffer_rows=4)
    for _ in range(40):
        text.draw(2)
    done = [source.done for source in text.sources]
    assert max(done) - min(done) < 0.5
    assert min(done) > 0.5


def test_a_path_given_twice_is_read_twice_as_often(files: list[Path]) -> None:
    once, twice = (PackedText(paths, tiny_tokenizer(), LENGTH, buffer_rows=1) for paths in (files, [*files, files[1]]))
    once.draw(60)
    twice.draw(60)
    read = twice.sources[1].done + twice.sources[2].done
    assert read / twice.sources[0].done == pytest.approx(2 * once.sources[1].done / once.sources[0].done, rel=0.5)


def test_rows_are_drawn_by_seed_and_count(files: list[Path]) -> None:
    first, same, other = (PackedText(files, tiny_tokenizer(), LENGTH, seed, 32) for seed in (0, 0, 1))
    drawn = first.draw(20)
    assert np.array_equal(drawn, np.concatenate([same.draw(7), same.draw(13)]))
    assert not np.array_equal(drawn, other.draw(20))


@pytest.mark.parametrize("before", [1, 5, 90])
def test_a_stream_taken_up_again_goes_on_as_if_never_left(files: list[Path], before: int) -> None:
    unbroken, left, taken_up = (PackedText(files, tiny_tokenizer(), LENGTH, 3, 8) for _ in range(3))
    unbroken.draw(before)
    left.draw(before)
    assert left.buffer is not None
    taken_up.resume(left.state(), left.buffer)
    assert np.array_equal(unbroken.draw(40), taken_up.draw(40))


def test_other_files_cannot_go_on(files: list[Path], tmp_path: Path) -> None:
    left = PackedText(files, tiny_tokenizer(), LENGTH, buffer_rows=4)
    left.draw(1)
    assert left.buffer is not None
    files[0].write_text(some_text(121))
    with pytest.raises(CheckpointError, match="not the files"):
        PackedText(files, tiny_tokenizer(), LENGTH, buffer_rows=4).resume(left.state(), left.buffer)
    with pytest.raises(CheckpointError, match="2 sources, now 1"):
        PackedText(files[:1], tiny_tokenizer(), LENGTH, buffer_rows=4).resume(left.state(), left.buffer)


def test_text_without_documents_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n\n")
    with pytest.raises(DataError, match="holds no text"):
        Source(tmp_path / "a.jsonl").row(LENGTH, tiny_tokenizer())
