"""Documents packed into rows of equal length, shuffled, exactly repeatable from any step."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.backbone.tokenizer import Tokenizer
from nirvana_mri.errors import CheckpointError, DataError
from nirvana_mri.language.documents import Piece, read_pieces, text_files

Rows = NDArray[np.int32]


class Source:
    """The files at one path, read by name, over and over; tokens left over wait for the next row."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.files = text_files(path)
        self.sizes = [file.stat().st_size for file in self.files]
        self.epoch, self.file, self.place, self.share = 0, 0, 0, 0.0
        self.waiting: list[int] = []
        self._pieces: Iterator[Piece] | None = None

    @property
    def done(self) -> float:
        """How many times the files have been read, in fractions."""
        before = sum(self.sizes[: self.file]) + self.share * self.sizes[self.file]
        return self.epoch + before / max(1, sum(self.sizes))

    def row(self, length: int, tokenizer: Tokenizer) -> list[int]:
        """The next length + 1 tokens; the last one comes again as the first of the next row."""
        while len(self.waiting) <= length:
            piece = self._next()
            self.waiting += tokenizer.encode(piece.text)
            if piece.ends:
                self.waiting.append(tokenizer.end_id)
        row = self.waiting[: length + 1]
        del self.waiting[:length]
        return row

    def _next(self) -> Piece:
        for _ in range(len(self.files) + 1):
            if self._pieces is None:
                self._pieces = read_pieces(self.files[self.file], self.place)
            piece = next(self._pieces, None)
            if piece is not None:
                self.place, self.share = piece.place, piece.share
                return piece
            self._pieces, self.place, self.share = None, 0, 0.0
            self.file += 1
            if self.file == len(self.files):
                self.file, self.epoch = 0, self.epoch + 1
        raise DataError(f"{self.path}: holds no text; expected documents")

    def state(self) -> dict[str, Any]:
        """JSON-ready; :meth:`resume` is the inverse."""
        return {
            "files": [[file.name, size] for file, size in zip(self.files, self.sizes, strict=True)],
            "epoch": self.epoch,
            "file": self.file,
            "place": self.place,
            "share": self.share,
            "waiting": self.waiting,
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        if state["files"] != self.state()["files"]:
            raise CheckpointError(f"{self.path}: not the files that the run began with; give it the same text")
        self.epoch, self.file, self.place = state["epoch"], state["file"], state["place"]
        self.share, self.waiting, self._pieces = state["share"], list(state["waiting"]), None


class PackedText:
    """Rows of length + 1 tokens from several sources, all read at the same relative pace, so that they end together.

    Rows pass through a buffer from which they are drawn by seed and count alone. A row holds text of one source; a
    document's end is a token, and the next document follows in the same row.
    """

    def __init__(
        self, paths: Sequence[str | Path], tokenizer: Tokenizer, length: int, seed: int = 0, buffer_rows: int = 2048
    ) -> None:
        self.sources = [Source(path) for path in paths]
        self.tokenizer, self.length, self.seed, self.buffer_rows = tokenizer, length, seed, buffer_rows
        self.drawn = 0
        self.buffer: Rows | None = None

    def draw(self, rows: int) -> Rows:
        """The next rows [rows, length + 1]."""
        self.fill()
        assert self.buffer is not None
        drawn = np.empty((rows, self.length + 1), np.int32)
        for number in range(rows):
            generator = np.random.Generator(np.random.Philox(key=self.seed, counter=self.drawn))
            slot = int(generator.integers(len(self.buffer)))
            drawn[number] = self.buffer[slot]
            self.buffer[slot] = self._row()
            self.drawn += 1
        return drawn

    def fill(self) -> None:
        """Read as many rows as the buffer holds, or as one reading of all sources gives, if that is not done yet."""
        if self.buffer is not None:
            return
        rows = [self._row()]
        while len(rows) < self.buffer_rows and min(source.done for source in self.sources) < 1:
            rows.append(self._row())
        self.buffer = np.asarray(rows, np.int32)

    def _row(self) -> list[int]:
        return min(self.sources, key=lambda source: source.done).row(self.length, self.tokenizer)

    def state(self) -> dict[str, Any]:
        """All but the buffer, JSON-ready."""
        return {"drawn": self.drawn, "sources": [source.state() for source in self.sources]}

    def resume(self, state: Mapping[str, Any], buffer: Rows) -> None:
        """Go on where a run was left. Raises: CheckpointError where the text is another."""
        if len(state["sources"]) != len(self.sources):
            raise CheckpointError(
                f"the run read {len(state['sources'])} sources, now {len(self.sources)}; give the same"
            )
        for source, left in zip(self.sources, state["sources"], strict=True):
            source.resume(left)
        self.drawn, self.buffer = state["drawn"], buffer.copy()
