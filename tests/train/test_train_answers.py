"""Stage encoder: what is to be said of a scan, and learning to make the frozen language model say it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from language_support import tiny_tokenizer
from reader_support import lessons, reader
from safetensors.torch import load_file
from tiny import head

import nirvana_mri as nm
from nirvana_mri.errors import CheckpointError, DataError
from nirvana_mri.findings.grammar import Grammar
from nirvana_mri.findings.statement import Statement, parse, words_of
from nirvana_mri.findings.vocabulary import vocabulary
from nirvana_mri.train import TrainConfig
from nirvana_mri.train.annotations import read_annotations
from nirvana_mri.train.data import Example, Examples
from nirvana_mri.train.engine import make_engine
from nirvana_mri.train.exchange import (
    DESCRIBE,
    Answers,
    Exchange,
    Known,
    described,
    lesions_told,
    read_answers,
    read_pairs,
)
from nirvana_mri.train.index import read_index
from nirvana_mri.train.lesions import Lesion, insert_lesions
from nirvana_mri.train.loop import train
from nirvana_mri.train.objective import AnswerObjective, make_objective
from nirvana_mri.train.start import taught_findings
from nirvana_mri.train.subjects import subjects_of

KNOWN = Known("knees/file1", 3, False, "equispaced", 4.04, 15, 23.4, (320, 320))


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    return lessons(tmp_path)


def some_examples(config: TrainConfig, count: int) -> list[Example]:
    index = read_index(config.data)
    examples = Examples(subjects_of(index, ["a"]), config, Answers())
    return [examples[number] for number in range(count)]


def test_lesions_lie_in_their_boxes_and_inside_the_object() -> None:
    counts = set()
    for seed in range(20):
        image = torch.from_numpy(head(128, 112)[0]).to(torch.complex64) * torch.exp(torch.tensor(0.7j))
        changed, lesions = insert_lesions(image, np.random.default_rng(seed))
        counts.add(len(lesions))
        ratio = torch.where(image.abs() > 0, changed.abs() / image.abs().clamp_min(1e-6), 1.0)
        assert torch.allclose(changed.angle()[image.abs() > 0], torch.tensor(0.7), atol=1e-5)
        if len(lesions) == 1:
            box = lesions[0]
            inside = torch.zeros(image.shape, dtype=torch.bool)
            inside[box.row : box.row + box.height, box.column : box.column + box.width] = True
            most = (ratio - 1).abs()
            assert most.max() > 0.3
            assert most[inside].max() == most.max()
            assert most[~inside].max() < 0.6 * most.max()
            assert bool((ratio - 1).flatten()[most.argmax()] > 0) is box.bright
    assert counts == {0, 1, 2}


def test_facts_are_said_with_their_figures() -> None:
    told = described(KNOWN)
    assert told.prompt == DESCRIBE
    assert told.response == (
        "Measured k-space of 15 coils, 320 by 320. It was sampled on equally spaced columns, accelerated 4.0 times. "
        "The signal is about 23 times the noise."
    )
    assert "of 1 coil," in described(replace(KNOWN, simulated=True, coils=1)).response


def test_lesions_are_told_in_the_words_of_their_vocabulary() -> None:
    lesion = Lesion(60, 150, 20, 40, bright=False)
    simulated = replace(KNOWN, simulated=True, lesions=(lesion,))
    told = lesions_told(simulated)
    assert told.response == "no bright lesion. dark lesion, rows 4 to 4, columns 9 to 10."
    assert (told.prompt, told.vocabulary) == (vocabulary("simulated").question, "simulated")
    assert lesions_told(replace(simulated, lesions=())).response == "no bright lesion. no dark lesion."
    draw = np.random.default_rng(0)
    said = [Answers().of(simulated, draw) for _ in range(400)]
    assert set(said) == {told, described(simulated)}
    assert 0.65 < said.count(told) / 400 < 0.85


def test_examples_know_what_they_are(config: TrainConfig) -> None:
    index = read_index(config.data)
    for name, simulated in (("a", False), ("b", True)):
        examples = Examples(subjects_of(index, [name]), config, Answers())
        found = [examples[number] for number in range(8)]
        assert all((each.known.simulated, each.known.name) == (simulated, name) for each in found)
        facts = [each for each in found if each.exchange is not None and each.exchange.prompt == DESCRIBE]
        assert all(each.exchange and f"{each.known.coils} coil" in each.exchange.response for each in facts)
        assert simulated or len(facts) == len(found)
        assert all(each.matrix == each.known.matrix for each in found if each.problem.operator.hybrid)
        measured = [each for each in found if each.problem.operator.mask.ndim == 1]
        for each in measured:
            sampled = float(each.problem.operator.mask.float().mean())
            assert each.known.acceleration == pytest.approx(1 / sampled, rel=1e-6)
        assert any(each.known.lesions for each in found) == simulated
        assert all(2 < each.known.snr < 2000 for each in found)


def test_pairs_and_annotations_come_before_facts(tmp_path: Path) -> None:
    pairs, labels = tmp_path / "pairs.jsonl", tmp_path / "knee.csv"
    lines = [{"file": "file1", "slice": 3, "response": "A."}, {"file": "file9", "prompt": "Why?", "response": "B."}]
    pairs.write_text("\n\n".join(map(json.dumps, lines)))
    labels.write_text(
        "file,slice,study_level,x,y,width,height,label\nfile1,3,No,0,0,20,40,Meniscus Tear\n"
        "file1,3,No,160,300,40,20,Joint Effusion \nfile2,0,Yes,,,,,artifact\n"
    )
    (tmp_path / "knee_file_list.csv").write_text("file1\nfile3\n")
    answers = read_answers(pairs, labels)
    knee = vocabulary("knee")
    draw = np.random.default_rng(0)
    said = [answers.of(KNOWN, draw) for _ in range(20)]
    assert {each.vocabulary for each in said} == {None, "knee"}
    told = next(each for each in said if each.vocabulary)
    # The boxes are of pictures flipped up-down: what is at their top is at our bottom.
    assert "meniscus tear, rows 15 to 16, columns 1 to 1. " in told.response
    assert "joint effusion, rows 1 to 1, columns 9 to 10." in told.response
    assert told.response.count("no ") == sum(label.always for label in knee.labels) - 2
    nothing = answers.of(replace(KNOWN, slice=4), draw)
    assert (nothing.prompt, set(parse(nothing.response))) == (
        knee.question, {Statement(label.name) for label in knee.labels if label.always},
    )  # fmt: skip
    assert answers.of(replace(KNOWN, name="file9"), draw) == Exchange("Why?", "B.")
    everywhere = answers.of(replace(KNOWN, name="x/file2"), draw).response
    assert everywhere.endswith("artifact, rows 1 to 16, columns 1 to 16.")
    assert answers.of(replace(KNOWN, name="file3"), draw) == nothing
    assert answers.of(replace(KNOWN, name="file7"), draw) == described(replace(KNOWN, name="file7"))
    with pytest.raises(DataError, match="lies outside a picture of 64 rows"):
        answers.of(replace(KNOWN, matrix=(64, 64)), draw)
    assert len({answers.sha256, read_answers(None, labels).sha256, Answers().sha256}) == 3


@pytest.mark.parametrize("name", ["knee", "brain"])
def test_the_real_annotations_are_read(shared_data: Path, name: str) -> None:
    found = read_annotations(shared_data / "annotations" / f"{name}.csv")
    assert found.vocabulary.name == name
    labels = {mark.label for marks in found.marks.values() for mark in marks}
    assert labels == {label.name for label in found.vocabulary.labels}
    listed = (shared_data / "annotations" / f"{name}_file_list.csv").read_text().splitlines()
    assert found.reviewed >= {line.strip() for line in listed} - {""}
    for file, number in list(found.marks)[::25]:
        answer = found.answer(file, number, (320, 320))
        assert parse(words_of(answer)) == answer == found.vocabulary.answer(answer)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("no json", "line 1 is not"),
        ('{"file": "a", "response": "x"}\n[1]', "line 2 is not"),
        ('{"file": "a"}', "line 1 is not"),
        ('{"file": "a", "response": ""}', "line 1 is not"),
        ('{"file": "a", "slice": "3", "response": "x"}', "line 1 is not"),
    ],
)
def test_bad_pairs_are_named_by_line(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(DataError, match=says):
        list(read_pairs(tmp_path / "a.jsonl"))
    with pytest.raises(DataError, match="no such file"):
        list(read_pairs(tmp_path / "none.jsonl"))
    (tmp_path / "b.jsonl").write_bytes(b"\xff\x00")
    with pytest.raises(DataError, match="no UTF-8 text"):
        list(read_pairs(tmp_path / "b.jsonl"))


def test_bad_annotations_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("name,label\na,b\n")
    with pytest.raises(DataError, match="expected those of fastMRI"):
        read_annotations(path)
    head = "file,slice,study_level,x,y,width,height,label\n"
    for line, says in (
        ("a,x,No,1,2,3,4,Meniscus Tear", "line 2 lacks a slice"),
        ("a,1,No,1,2,,4,Meniscus Tear", "line 2 lacks a slice or a box"),
        ("a,1,No,1,2,3,4,Tear", "line 2: label 'Tear' is not among"),
        (
            "a,1,No,1,2,3,4,Meniscus Tear\na,1,No,1,2,3,4,Mass",
            "line 3: label 'Mass' is not among fastMRI.'s of",
        ),
        ("", "holds no annotation"),
    ):
        path.write_text(head + line)
        with pytest.raises(DataError, match=says):
            read_annotations(path)


def test_the_loss_is_that_of_the_answers_tokens_alone(config: TrainConfig) -> None:
    """Written out for one example with all logits: labels shifted by one, scan and question not scored."""
    model = reader().double()
    objective = AnswerObjective(model, make_engine(config).lowered, tiny_tokenizer())
    example = some_examples(config, 1)[0]
    assert example.exchange is not None
    words = tiny_tokenizer()
    prompt = words.encode(" " + example.exchange.prompt)
    response = [*words.encode(" " + example.exchange.response), words.end_id]
    model.float()
    with torch.no_grad():
        scan = model.tokens([example.problem])
        assert model.backbone is not None
        text = model.backbone.embedding(torch.tensor([[*prompt, *response]]))
        logits = model.backbone(inputs_embeds=torch.cat([scan, text], dim=1)).logits[0]
        expected = F.cross_entropy(logits[-len(response) - 1 : -1], torch.tensor(response))
        assert float(objective([example])) == pytest.approx(float(expected), rel=1e-5)


def test_the_loss_of_findings_is_that_of_the_choices_among_the_vocabularys_words(config: TrainConfig) -> None:
    """Written out: 1 of 2 labels or its denial, then 16 rows as tokens, and so on; forced tokens weigh nothing."""
    model, words = reader(), tiny_tokenizer()
    objective = AnswerObjective(model, make_engine(config).lowered, words)
    told = lesions_told(replace(KNOWN, lesions=(Lesion(60, 150, 20, 40, bright=False),)))
    example = replace(some_examples(config, 1)[0], exchange=told)
    prompt, response = words.encode(f" {told.prompt}"), [*words.encode(f" {told.response}"), words.end_id]
    allowed = Grammar(vocabulary("simulated"), words).choices(response)
    with torch.no_grad():
        assert model.backbone is not None
        text = model.backbone.embedding(torch.tensor([[*prompt, *response]]))
        logits = model.backbone(inputs_embeds=torch.cat([model.tokens([example.problem]), text], dim=1)).logits[0]
        losses = [
            F.cross_entropy(row[tokens], torch.tensor(tokens.index(token)))
            for row, token, tokens in zip(logits[-len(response) - 1 : -1], response, allowed, strict=True)
            if len(tokens) > 1
        ]
        assert 6 < len(losses) < len(response)
        assert float(objective([example])) == pytest.approx(float(torch.stack(losses).mean()), rel=1e-5)


def test_padding_changes_nothing_and_only_the_encoder_learns(config: TrainConfig) -> None:
    model = reader()
    objective = make_objective(config, model, make_engine(config).lowered)
    first = some_examples(config, 1)[0]
    texts = ("Short.", "A much longer answer than the other ones are.", "One, two.")
    examples = [replace(first, exchange=Exchange("What?" * n, text)) for n, text in enumerate(texts, start=1)]
    model.requires_grad_(False)
    model.encoder.requires_grad_(True)
    together = objective(examples)
    alone = sum(float(objective([each]).detach()) for each in examples)
    assert float(together.detach()) == pytest.approx(alone, rel=1e-5)
    together.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.encoder.parameters())
    assert all(p.grad is None for part in (model.decoder, model.backbone) for p in part.parameters())


def test_stage_encoder_learns_and_its_file_reads_words(config: TrainConfig) -> None:
    before = load_file(Path(str(config.start_from)))
    path = train(replace(config, max_steps=24, learning_rate=1e-2, validate_every=12))
    after = load_file(path)
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]) != name.startswith("encoder."), name
    loaded = nm.load_model(path)
    assert loaded.model.tokenizer is not None
    assert loaded.model.tokenizer.sha256 == tiny_tokenizer().sha256
    told = loaded.training["metrics"]
    assert told["answer_loss"] > 0
    assert "nats per token" in told["protocol"]
    rows = [line.split(",") for line in (config.out / "metrics.csv").read_text().splitlines()]
    losses = [float(row[1]) for row in rows[1:]]
    choices = [loss for loss in losses if loss < 4]  # free words cost nearly log 320 each, a vocabulary's choices less
    assert 8 <= len(choices) < len(losses)
    assert np.mean(choices[-4:]) < np.mean(choices[:4])
    assert loaded.training["findings"] == {"vocabulary": "simulated", "sha256": vocabulary("simulated").sha256}
    for stage, kept in (("decoder", loaded.training["findings"]), ("joint", None)):
        assert taught_findings(replace(config, stage=stage, start_from=str(path)), None, []) == kept
    again = replace(config, resume=True, max_steps=25, pairs=config.out / "pairs.jsonl")
    again.pairs.write_text('{"file": "a", "response": "New."}')  # type: ignore[union-attr]
    with pytest.raises(CheckpointError, match="begun with answers"):
        train(replace(again, learning_rate=1e-2, validate_every=12))
