"""Documents as blocks of text of moderate size, cut where a tokenizer starts anew."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nirvana_mri.backbone.tokenizer import Tokenizer
from nirvana_mri.errors import DataError
from nirvana_mri.language.documents import read_pieces

LINE = re.compile(r"\n(?=\S)")
WORD = re.compile(r"(?<=\S)(?= [^\W\d_])")
LONGEST = 2**18  # characters that wait for a line to end


@dataclass(frozen=True)
class Block:
    """Some text of a document, whether the document ends with it, and how far in the source it is (done, total)."""

    text: str
    ends: bool
    done: int
    total: int


def read_blocks(source: str | Path) -> Iterator[Block]:
    """The documents of a file (a Path), or a text (a str), in blocks.

    A document is cut before lines that do not begin with white space, or in a very long line before a word. There our
    own tokenizers begin a word whatever came before, so that the tokens of the blocks are those of the whole document
    (SentencePiece begins each block with a space of its own). Raises: DataError as read_pieces does.
    """
    if isinstance(source, str):
        if not source.strip():
            raise DataError("the text is empty; expected words")
        yield Block(source, True, len(source), len(source))
        return
    total = source.stat().st_size
    waiting = ""
    for piece in read_pieces(source):
        waiting += piece.text
        place = len(waiting) if piece.ends else _last_cut(waiting)
        if place or piece.ends:
            yield Block(waiting[:place], piece.ends, round(piece.share * total), total)
            waiting = waiting[place:]


def longest_start(tokenizer: Tokenizer, text: str, tokens: int) -> str:
    """The start of a text that has no more than so many tokens, as many of its characters as that allows."""
    low, high = 0, 64 * tokens
    while len(tokenizer.encode(text[:high])) <= tokens:
        if high >= len(text):
            return text
        low, high = high, 2 * high
    high = min(high, len(text))
    while high - low > 1:  # low fits, high does not
        middle = (low + high) // 2
        if len(tokenizer.encode(text[:middle])) <= tokens:
            low = middle
        else:
            high = middle
    return text[:low]


def _last_cut(text: str) -> int:
    """The last place in a text where it may be cut; 0 where it should wait for more."""
    for pattern in (LINE, WORD) if len(text) > LONGEST else (LINE,):
        places = [match.end() for match in pattern.finditer(text)]
        if places:
            return places[-1]
    return len(text) if len(text) > 4 * LONGEST else 0
