"""A number hidden in a long text and asked for at its end: single needles in a haystack (S-NIAH; RULER, COLM 2024)."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nirvana_mri.backbone.tokenizer import Tokenizer
from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.language.continuation import split
from nirvana_mri.language.documents import read_text
from nirvana_mri.language.sentences import sentence_spans

NOISE = (
    "The grass is green.",
    "The sky is blue.",
    "The sun is yellow.",
    "Here we go.",
    "There and back again.",
)
INTRODUCTION = "A special magic number is hidden in the following text."
NEEDLE = "The special magic number for {word} is {number}."
QUESTION = "What is the special magic number for {word}? The special magic number for {word} is"
# fmt: off
NAMES = (
    "apple", "river", "garden", "window", "candle", "horse", "bridge", "forest", "silver", "winter", "harbour",
    "letter", "mountain", "kitchen", "summer", "feather", "basket", "castle", "doctor", "engine", "finger", "hammer",
    "island", "jacket", "ladder", "market", "needle", "orange", "pencil", "rabbit", "saddle", "temple", "valley",
    "wagon", "anchor", "button", "carpet", "dragon", "farmer", "guitar",
)
# fmt: on
DISTRACTORS = 9
LEAST_TEXT = 2**20  # bytes of a data file from which a haystack may begin anywhere


@dataclass(frozen=True)
class NeedlePrompt:
    """A prompt of exact length; ids[place : place + needle_tokens] is the needle, answer what follows."""

    ids: tuple[int, ...]
    place: int
    needle_tokens: int
    word: str
    number: str
    answer: tuple[int, ...]
    distractors: tuple[tuple[int, ...], ...]


class Haystack:
    """Sentences as tokens, to be taken from anywhere: the repeated noise of S-NIAH-1, or those of a text file."""

    def __init__(self, tokenizer: Tokenizer, path: Path | None = None, length: int = 0) -> None:
        self.tokenizer, self.path = tokenizer, path
        self._tokens: dict[int, list[int]] = {}
        self.sentences: Sequence[str] = NOISE
        if path is not None:
            text = read_text(path, max(LEAST_TEXT, 16 * length))
            self.sentences = [" ".join(text[start:stop].split()) for start, stop in sentence_spans(text)]
            if not self.sentences:
                raise DataError(f"{path}: holds no sentence; a haystack needs text with full stops")

    def draw(self, tokens: int, generator: random.Random) -> list[list[int]]:
        """Successive sentences with so many tokens in all; the first one lacks its beginning where it must.

        Raises: DataError where the file has fewer tokens.
        """
        first = 0 if self.path is None else generator.randrange(len(self.sentences))
        taken: list[list[int]] = []
        count = 0
        for index in self._onwards(first):
            if count >= tokens:
                break
            taken.append(self._encoded(index))
            count += len(taken[-1])
        if count < tokens:
            raise DataError(
                f"{self.path}: about {count} tokens of text, the haystack needs {tokens}; give a longer file"
            )
        surplus = count - tokens
        while taken and surplus >= len(taken[0]):
            surplus -= len(taken.pop(0))
        return [taken[0][surplus:], *taken[1:]] if taken else []

    def _onwards(self, first: int) -> Iterator[int]:
        """Places from the first on; a file's sentences each once, the noise without end."""
        index = first
        while self.path is None or index < first + len(self.sentences):
            yield index % len(self.sentences)
            index += 1

    def _encoded(self, index: int) -> list[int]:
        if index not in self._tokens:
            self._tokens[index] = after(self.tokenizer, self.sentences[index])
        return self._tokens[index]


def after(tokenizer: Tokenizer, text: str, before: str = ".") -> list[int]:
    """The tokens of a text that follows something and a space."""
    return split(tokenizer, before, f" {text}")[1]


def needle_prompt(haystack: Haystack, length: int, depth: float, digits: int, generator: random.Random) -> NeedlePrompt:
    """A prompt of exactly ``length`` tokens, the end-of-document token at its start included.

    The needle lies between two sentences, as near to ``depth`` (0: before the haystack, 1: after it) as they allow.
    Raises: UsageError where the length has no room for needle and question.
    """
    tokenizer = haystack.tokenizer
    word = generator.choice(NAMES)
    number, *others = _numbers(digits, generator)
    front = [tokenizer.end_id, *tokenizer.encode(INTRODUCTION)]
    needle = after(tokenizer, NEEDLE.format(word=word, number=number))
    question = after(tokenizer, QUESTION.format(word=word))
    room = length - len(front) - len(needle) - len(question)
    if room < 0:
        raise UsageError(
            f"length is {length} tokens; needle and question alone take {length - room}, so give at least that"
        )
    straw = haystack.draw(room, generator)
    ends = [0]
    for sentence in straw:
        ends.append(ends[-1] + len(sentence))
    before = min(ends, key=lambda end: abs(end - depth * room))
    flat = [token for sentence in straw for token in sentence]
    ids = (*front, *flat[:before], *needle, *flat[before:], *question)
    tokens = [tuple(after(tokenizer, value, "is")) for value in (number, *others)]
    return NeedlePrompt(ids, len(front) + before, len(needle), word, number, tokens[0], tuple(tokens[1:]))


def _numbers(digits: int, generator: random.Random) -> list[str]:
    """The number and its distractors, all different, of equal length."""
    low, high = 10 ** (digits - 1), 10**digits
    numbers: list[str] = []
    while len(numbers) <= DISTRACTORS:
        number = str(generator.randrange(low, high))
        if number not in numbers:
            numbers.append(number)
    return numbers
