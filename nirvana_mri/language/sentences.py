"""Where the sentences of a text lie."""

import re

END = re.compile(r"[.!?][.!?\"'”’)\]]*(?=\s|$)")


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """(start, stop) of each sentence, its end mark included, white space left out; what has no end mark is left out.

    An end mark before white space ends a sentence, so that an abbreviation ends one too.
    """
    spans, start = [], 0
    for mark in END.finditer(text):
        first = start + len(text[start : mark.end()]) - len(text[start : mark.end()].lstrip())
        if first < mark.start():
            spans.append((first, mark.end()))
        start = mark.end()
    return spans
