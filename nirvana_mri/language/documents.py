"""Text files as streams of documents that can be left and taken up again at any place."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nirvana_mri.errors import DataError, MissingExtraError, UsageError

SUFFIXES = (".txt", ".jsonl", ".parquet")
BLOCK = 64 * 2**10  # bytes of a text file read at once
LONGEST_LINE = 64 * 2**20  # bytes of one document in a .jsonl


@dataclass(frozen=True)
class Piece:
    """Some text of a document: whether it is the document's end, the place after it, and the share of the file read."""

    text: str
    ends: bool
    place: int
    share: float


def text_files(path: str | Path) -> list[Path]:
    """The files of text at a path: the file itself, or all in a folder and below, by name.

    Raises: UsageError where there is none, or the kind of file is unknown.
    """
    path = Path(path)
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file())
        if not found:
            raise UsageError(f"{path}: holds no text; expected files that end in {', '.join(SUFFIXES)}")
        return found
    if not path.exists():
        raise UsageError(
            f"{path}: no such file or folder; name a text file (.txt, .jsonl, .parquet) or a folder of them"
        )
    if not path.is_file():
        raise UsageError(f"{path}: neither a file nor a folder; name a text file")
    return [path]


def read_pieces(path: Path, place: int = 0) -> Iterator[Piece]:
    """The pieces of a file after a place that an earlier piece gave (0: from the start).

    .jsonl holds a JSON object with "text" on every line, .parquet a column "text"; any other file is one document of
    UTF-8 text. Raises: DataError for a file that is empty or no text, and names the line.
    """
    if path.suffix == ".jsonl":
        return _lines(path, place)
    if path.suffix == ".parquet":
        return _rows(path, place)
    return _blocks(path, place)


def read_text(path: Path, most: int | None = None) -> str:
    """All documents of a file, a blank line between them; at most so many bytes of it. Raises as read_pieces does."""
    parts: list[str] = []
    size = 0
    for piece in read_pieces(path):
        parts.append(piece.text + ("\n\n" if piece.ends and piece.share < 1 else ""))
        size += len(piece.text.encode())
        if most is not None and size >= most:
            break
    return "".join(parts)


def _blocks(path: Path, place: int) -> Iterator[Piece]:
    """A text file in blocks that end at line ends (where a line is not longer than a block)."""
    size = path.stat().st_size
    if size == 0:
        raise DataError(f"{path}: empty; expected UTF-8 text")
    with path.open("rb") as file:
        file.seek(place)
        while block := file.read(BLOCK):
            block += file.readline(BLOCK)
            while block and file.tell() < size and not _whole(block):
                block += file.read(1)
            place = file.tell()
            text = _decoded(block, path, place - len(block))
            if place >= size and place == len(block) and not text.strip():
                raise DataError(f"{path}: holds white space alone; expected UTF-8 text")
            yield Piece(text, place >= size, place, place / size)


def _whole(block: bytes) -> bool:
    """Whether the bytes do not end inside a character."""
    tail = block[-4:]
    for back in range(1, len(tail) + 1):
        byte = tail[-back]
        if byte & 0xC0 != 0x80:  # the first byte of a character
            length = 1 if byte < 0x80 else 2 if byte >> 5 == 6 else 3 if byte >> 4 == 14 else 4
            return back >= length
    return True


def _decoded(data: bytes, path: Path, offset: int) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise DataError(
            f"{path}: byte {offset + problem.start} is no UTF-8 text; is it a binary file? Convert text to UTF-8 first"
        ) from problem
    if "\0" in text:
        raise DataError(f"{path}: holds NUL bytes near byte {offset}; expected UTF-8 text, is it a binary file?")
    return text


def _lines(path: Path, place: int) -> Iterator[Piece]:
    size = path.stat().st_size
    if size == 0:
        raise DataError(f'{path}: empty; expected lines like {{"text": "..."}}')
    with path.open("rb") as file:
        file.seek(place)
        while line := file.readline(LONGEST_LINE + 1):
            start, place = place, file.tell()
            if len(line) > LONGEST_LINE:
                raise DataError(
                    f"{path}: the line at byte {start} is longer than {LONGEST_LINE} bytes; is it a .jsonl?"
                )
            if line.strip():
                yield Piece(_document(line, path, start), True, place, place / size)


def _document(line: bytes, path: Path, start: int) -> str:
    expected = f'{path}: the line at byte {start} is no JSON object with a text; expected {{"text": "..."}}'
    try:
        found = json.loads(_decoded(line, path, start))
    except (ValueError, RecursionError) as problem:
        raise DataError(expected) from problem
    if not isinstance(found, dict) or not isinstance(found.get("text"), str):
        raise DataError(expected)
    return _encodable(found["text"], path, start)


def _encodable(text: str, path: Path, start: int) -> str:
    """The text, unless it has lone surrogates, which JSON can write and UTF-8 cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as problem:
        raise DataError(
            f"{path}: the document at {start} has half a character (a lone surrogate); mend it"
        ) from problem
    return text


def _rows(path: Path, place: int) -> Iterator[Piece]:
    arrow = _arrow()
    try:
        file = arrow.parquet.ParquetFile(path)
        rows = file.metadata.num_rows
        if "text" not in file.schema_arrow.names:
            raise DataError(f"{path}: has columns {', '.join(file.schema_arrow.names)[:120]}; expected one named text")
        if rows == 0:
            raise DataError(f"{path}: has no rows; expected a column text with documents")
        yield from _row_pieces(file, path, place, rows)
    except (OSError, arrow.lib.ArrowException) as problem:
        raise DataError(f"{path}: not a readable parquet file ({problem!s:.120}); fetch it anew") from problem


def _row_pieces(file: Any, path: Path, place: int, rows: int) -> Iterator[Piece]:
    row = 0
    for group in range(file.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        if row + count > place:
            for batch in file.iter_batches(batch_size=256, row_groups=[group], columns=["text"]):
                for text in batch.column(0).to_pylist():
                    row += 1
                    if row > place:
                        if not isinstance(text, str):
                            raise DataError(f"{path}: row {row - 1} of column text is no text; drop such rows")
                        yield Piece(text, True, row, row / rows)
        else:
            row += count


def _arrow() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as problem:
        raise MissingExtraError("reading parquet", "text") from problem
    return pyarrow
