"""Text files: every byte once, from any place on, and one line for what is no text."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from language_support import some_text, write_jsonl

from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.language import documents
from nirvana_mri.language.documents import read_pieces, read_text, text_files


@given(text=st.text(alphabet=st.sampled_from("aé€\N{GRINNING FACE}\n "), min_size=1), block=st.integers(1, 9))
def test_blocks_of_a_text_join_to_the_text(tmp_path_factory: pytest.TempPathFactory, text: str, block: int) -> None:
    if not text.strip():
        text += "a"
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "BLOCK", block)
        pieces = list(read_pieces(path))
        assert "".join(piece.text for piece in pieces) == text
        assert [piece.ends for piece in pieces] == [False] * (len(pieces) - 1) + [True]
        for number, piece in enumerate(pieces[:-1]):
            assert list(read_pieces(path, piece.place)) == pieces[number + 1 :]


def test_lines_and_rows_can_be_taken_up_anywhere(tmp_path: Path) -> None:
    texts = [some_text(3, start) for start in range(20)]
    files = [write_jsonl(tmp_path / "a.jsonl", texts), _parquet(tmp_path / "a.parquet", texts)]
    for path in files:
        pieces = list(read_pieces(path))
        assert [piece.text for piece in pieces] == texts
        assert pieces[-1].share == 1
        for number, piece in enumerate(pieces[:-1]):
            assert list(read_pieces(path, piece.place)) == pieces[number + 1 :]


def _parquet(path: Path, texts: list[str]) -> Path:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"url": [""] * len(texts), "text": texts}), path, row_group_size=7)
    return path


def test_a_folder_gives_its_files_by_name(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    for name in ("b.txt", "a.jsonl", "below/c.txt", "picture.png"):
        (tmp_path / name).write_text("x")
    assert [path.name for path in text_files(tmp_path)] == ["a.jsonl", "b.txt", "c.txt"]


def test_read_text_joins_documents(tmp_path: Path) -> None:
    assert read_text(write_jsonl(tmp_path / "a.jsonl", ["one", "two"])) == "one\n\ntwo"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", b"", "empty"),
        ("a.txt", b" \n ", "white space alone"),
        ("a.txt", b"good\n\x89PNG\x00", "byte 5 is no UTF-8"),
        ("a.txt", b"good \x00 bad", "NUL"),
        ("a.jsonl", b"", "empty"),
        ("a.jsonl", b'{"text": "a"}\n{"body": "b"}\n', "line at byte 14"),
        ("a.jsonl", b"[1, 2]\n", "no JSON object"),
        ("a.jsonl", b'{"text": "\\ud800"}\n', "surrogate"),
        ("a.parquet", b"PAR1 no", "not a readable parquet"),
    ],
)
def test_what_is_no_text_is_one_line(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=says) as caught:
        list(read_pieces(tmp_path / name))
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_parquet_without_text_names_its_columns(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"body": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="columns body"):
        list(read_pieces(tmp_path / "a.parquet"))


def test_places_without_text_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.txt"):
        with pytest.raises(UsageError, match=str(path)):
            text_files(path)
