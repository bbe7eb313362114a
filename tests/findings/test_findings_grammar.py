"""What can be said: statements and back, boxes on the grid, and nothing outside the vocabulary from any weights."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from language_support import tiny_language_model, tiny_tokenizer

from nirvana_mri.backbone.tokenizer import Tokenizer
from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.findings.constrained import write
from nirvana_mri.findings.grammar import Grammar
from nirvana_mri.findings.statement import GRID, WHOLE, Cells, Statement, box_of, cells_of, parse, words_of
from nirvana_mri.findings.vocabulary import vocabularies, vocabulary

NAMES = tuple(vocabularies())
SPANS = st.tuples(st.integers(1, GRID), st.integers(1, GRID)).map(sorted)
CELLS = st.tuples(SPANS, SPANS).map(lambda both: Cells(*both[0], *both[1]))
ANSWERS = st.sampled_from(NAMES).flatmap(
    lambda name: st.tuples(
        st.just(vocabulary(name)),
        st.lists(
            st.builds(Statement, st.sampled_from([label.name for label in vocabulary(name).labels]), CELLS), max_size=9
        ),
    )
)


@given(ANSWERS)
def test_statements_come_back_from_their_words_and_tokens(drawn) -> None:
    spoken, found = drawn
    answer = spoken.answer(found)
    assert spoken.answer(reversed(answer)) == answer
    assert parse(words_of(answer)) == answer
    said = {each.label for each in answer}
    assert {each.label for each in found} | {label.name for label in spoken.labels if label.always} == said
    words = tiny_tokenizer()
    tokens = [*words.encode(f" {words_of(answer)}"), words.end_id]
    allowed = Grammar(spoken, words).choices(tokens)
    assert all(token in those for token, those in zip(tokens, allowed, strict=True))


@given(CELLS, st.integers(16, 400), st.integers(16, 400))
def test_boxes_and_cells_are_each_others_inverse(cells: Cells, ny: int, nx: int) -> None:
    x, y, width, height = box_of(cells, (ny, nx))
    assert 0 <= x < x + width <= nx
    assert 0 <= y < y + height <= ny
    assert cells_of((x, y, width, height), (ny, nx)) == cells


@given(st.integers(-30, 319), st.integers(-30, 319), st.integers(31, 300), st.integers(31, 300))
def test_cells_lie_within_half_a_cell_of_the_box(x: int, y: int, width: int, height: int) -> None:
    left, top, wide, high = box_of(cells_of((x, y, width, height), (320, 320)), (320, 320))
    for given_edge, edge in ((x, left), (y, top), (x + width, left + wide), (y + height, top + high)):
        assert abs(min(max(given_edge, 0), 320) - edge) <= 20


def test_what_is_no_finding_is_refused() -> None:
    for text in (
        "a tumour",
        "mass, rows 1 to 17, columns 1 to 2.",
        "mass, rows 3 to 2, columns 1 to 2.",
        "mass.",
        "x, y.",
    ):
        with pytest.raises(DataError):
            parse(text)
    assert parse("") == ()
    with pytest.raises(DataError, match="not in the vocabulary 'knee'"):
        vocabulary("knee").answer([Statement("mass", WHOLE)])
    with pytest.raises(UsageError, match="expected one of simulated, knee, brain"):
        vocabulary("lung")
    for box in ((320, 0, 5, 5), (0, 0, 0, 5), (-5, 0, 5, 5)):
        with pytest.raises(DataError, match="outside a picture"):
            cells_of(box, (320, 320))
    grammar = Grammar(vocabulary("simulated"), tiny_tokenizer())
    for text in (" no bright lesion.", " dark lesion, rows 1 to 1, columns 1 to 1.", " A patient."):
        tokens = [*tiny_tokenizer().encode(text), tiny_tokenizer().end_id]
        with pytest.raises(DataError, match="is not what the vocabulary"):
            grammar.choices(tokens)


@pytest.mark.parametrize(
    ("name", "most", "seed"), [*(("simulated", 2, n) for n in range(4)), ("knee", 1, 4), ("brain", 1, 5)]
)
def test_any_weights_say_only_what_the_vocabulary_holds(name: str, most: int, seed: int) -> None:
    spoken = replace(vocabulary(name), most=most)  # drawn weights are wordy
    model = tiny_language_model(seed, initializer_range=0.5).requires_grad_(False).eval()
    generator = torch.Generator().manual_seed(seed)
    scan = torch.randn(1, 7, model.config.hidden_size, generator=generator)
    grammar = Grammar(spoken, tiny_tokenizer())
    said = write(model, scan, grammar)
    names = [label.name for label in spoken.labels]
    assert {each.statement.label for each in said} <= set(names)
    assert {label.name for label in spoken.labels if label.always} <= {each.statement.label for each in said}
    assert parse(words_of(each.statement for each in said)) == tuple(each.statement for each in said)
    assert all(0 < each.score <= 1 for each in said)
    order = [names.index(each.statement.label) for each in said]
    assert order == sorted(order)
    assert write(model, scan, grammar) == said


def test_the_cached_answer_is_the_likeliest_at_each_place_without_a_cache() -> None:
    """Each choice again, from all tokens so far at once: the same token, and the score that follows."""
    model = tiny_language_model(1, initializer_range=0.5).requires_grad_(False).eval()
    words, spoken = tiny_tokenizer(), vocabulary("simulated")
    grammar = Grammar(spoken, words)
    scan = torch.randn(1, 5, model.config.hidden_size, generator=torch.Generator().manual_seed(3))
    said = write(model, scan, grammar)
    answer = words.encode(f" {words_of(each.statement for each in said)}")
    tokens = [*words.encode(f" {spoken.question}"), *answer]
    vectors = torch.cat([scan, model.embedding(torch.tensor([tokens]))], dim=1)
    logits = model(inputs_embeds=vectors).logits[0, -len(answer) - 1 : -1]
    first = len(words.encode(f" {said[0].statement.words}"))
    logarithms = []
    for place, (row, token, allowed) in enumerate(
        zip(logits, answer, grammar.choices([*answer, words.end_id])[:-1], strict=True)
    ):
        assert allowed[int(row[allowed].argmax())] == token
        if place < first and len(allowed) > 1:
            logarithms.append(float(row[allowed].log_softmax(0)[allowed.index(token)]))
    assert said[0].score == pytest.approx(float(torch.tensor(logarithms).mean().exp()), rel=1e-4)


def test_a_tokenizer_that_joins_words_is_refused() -> None:
    class Joining(Tokenizer):
        end_id, vocab_size, sha256 = 0, 400, ""

        def decode(self, ids: Sequence[int]) -> str:
            raise NotImplementedError

        def encode(self, text: str) -> list[int]:
            return [len(text)]

    with pytest.raises(UsageError, match="joins words"):
        Grammar(vocabulary("simulated"), Joining())
