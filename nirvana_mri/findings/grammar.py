"""What may come next in an answer: pieces of text, as a machine that knows how far the answer has come."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from nirvana_mri.backbone.tokenizer import Tokenizer
from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.findings.statement import GRID
from nirvana_mri.findings.vocabulary import Vocabulary

PARTS = ("label", "rows", "top", "bottom", "columns", "left", "right")


@dataclass(frozen=True)
class Place:
    """How far an answer is: the label said last (-1: none yet), how often it was found, and within its statement the
    part that comes next, and the first row or column, which its last one may not lie before.
    """

    label: int = -1
    times: int = 0
    part: str = PARTS[0]
    first: int = 1


END = Place(part="end")
Option = tuple[str, Place]


class Grammar:
    """The answers that a vocabulary allows, as tokens.

    Every answer goes through the labels in order. Those that are always said come as found or as denied, the others as
    found or not at all. Where several pieces are possible, no piece's tokens begin another's.
    """

    def __init__(self, vocabulary: Vocabulary, tokenizer: Tokenizer) -> None:
        """Raises: UsageError for a tokenizer that writes a text otherwise than its words one by one: what the model
        has learned to say could not be offered word by word then.
        """
        self.vocabulary, self.tokenizer = vocabulary, tokenizer
        self._ids: dict[str, tuple[int, ...]] = {}
        for pieces in _samples(vocabulary):
            if tokenizer.encode("".join(pieces)) != [token for piece in pieces for token in self.ids(piece)]:
                raise UsageError(
                    "this model's tokenizer joins words, so findings cannot be offered to it word by word; train with "
                    "a language model of nirvana-mri backbone pretrain, or the shipped one"
                )

    def ids(self, piece: str) -> tuple[int, ...]:
        """The tokens of a piece; an empty one ends the answer."""
        if piece not in self._ids:
            self._ids[piece] = tuple(self.tokenizer.encode(piece)) if piece else (self.tokenizer.end_id,)
        return self._ids[piece]

    def options(self, place: Place) -> list[Option]:
        """What may be said at a place, and where that leads; in a fixed order."""
        if place.part == "label":
            return list(self._next_statement(place))
        if place.part in ("rows", "columns"):
            following = "top" if place.part == "rows" else "left"
            return [(f" {place.part}", replace(place, part=following, first=1))]
        if place.part in ("top", "left"):
            following = "bottom" if place.part == "top" else "right"
            return [(f" {n} to", replace(place, part=following, first=n)) for n in range(1, GRID + 1)]
        last = place.part == "right"
        following, mark = ("label", ".") if last else ("columns", ",")
        return [(f" {n}{mark}", replace(place, part=following, first=1)) for n in range(place.first, GRID + 1)]

    def choices(self, answer: Sequence[int]) -> list[list[int]]:
        """For each token of a whole answer, those that were allowed there. Raises: DataError for one that was not."""
        walk, allowed = Walk(self), []
        for token in answer:
            if walk.ended:
                raise DataError("the answer goes on after its end")
            allowed.append(walk.allowed)
            walk.take(token)
        return allowed

    def _next_statement(self, place: Place) -> Iterator[Option]:
        labels = self.vocabulary.labels
        start = place.label if 0 < place.times < self.vocabulary.most else place.label + 1
        for number in range(max(start, 0), len(labels)):
            times = place.times + 1 if number == place.label else 1
            yield f" {labels[number].name},", Place(number, times, "rows")
            if labels[number].always and number != place.label:
                yield f" no {labels[number].name}.", Place(number)
                return
        yield "", END


class Walk:
    """An answer on its way, token by token."""

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar
        self.place = Place()
        self.text = ""
        self._alive: list[tuple[tuple[int, ...], str, Place]] = []
        self._depth = 0
        self._begin()

    @property
    def ended(self) -> bool:
        return self.place == END

    @property
    def allowed(self) -> list[int]:
        """The tokens that may come next, in rising order."""
        return sorted({ids[self._depth] for ids, _, _ in self._alive})

    def take(self, token: int) -> bool:
        """Go on by an allowed token; whether it completes a statement. ``text`` is all that was said until now."""
        self._alive = [each for each in self._alive if each[0][self._depth] == token]
        if not self._alive:
            raise DataError(f"token {token} is not what the vocabulary {self.grammar.vocabulary.name!r} allows here")
        self._depth += 1
        if self._depth < len(self._alive[0][0]):
            return False
        ((_, piece, self.place),) = self._alive
        self.text += piece
        if not self.ended:
            self._begin()
        return self.place.part == PARTS[0]

    def _begin(self) -> None:
        options = self.grammar.options(self.place)
        self._alive = [(self.grammar.ids(piece), piece, following) for piece, following in options]
        self._depth = 0


def _samples(vocabulary: Vocabulary) -> Iterator[tuple[str, ...]]:
    """Every piece beside the pieces that it can stand beside, whatever the numbers."""
    for label in vocabulary.labels:
        for first, last in ((1, GRID), (GRID, GRID), (2, 9)):
            found = (f" {label.name},", " rows", f" {first} to", f" {last},", " columns", f" {first} to", f" {last}.")
            yield (*found, f" no {label.name}.", *found)
