"""Text from anywhere, as it may stand in a document."""

from __future__ import annotations

import unicodedata

JOINERS = "\u200c\u200d"  # parts of words in several scripts


def clean(text: str) -> str:
    """The text on one line, in letters of any script; controls, direction marks and lone surrogates become spaces."""
    readable = (sign if sign in JOINERS or unicodedata.category(sign)[0] != "C" else " " for sign in text)
    return " ".join("".join(readable).split())


def word(value: object, otherwise: str = "unknown") -> str:
    """The value as text on one line; ``otherwise`` where there is none."""
    return (clean(str(value)) if value is not None else "") or otherwise


def cut(text: str, longest: int) -> str:
    """The text, or its beginning and how much there is of it."""
    if len(text) <= longest:
        return text
    return f"{text[:longest].rstrip()} … (cut; {len(text)} characters in all)"
