"""Stage encoder: what is to be said of a scan, and learning to make the frozen language model say it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from language_support import tiny_tokenizer
from safetensors.torch import load_file
from tiny import head, tiny_config, tiny_scan

import nirvana_mri as nm
from nirvana_mri.backbone import NirvanaLM
from nirvana_mri.errors import DataError
from nirvana_mri.recon.checkpoint import save_checkpoint
from nirvana_mri.recon.model import NirvanaRecon
from nirvana_mri.train import TrainConfig
from nirvana_mri.train.data import Example, Examples
from nirvana_mri.train.engine import make_engine
from nirvana_mri.train.exchange import (
    DESCRIBE,
    FINDINGS,
    NOTHING,
    Answers,
    Exchange,
    Known,
    described,
    read_annotations,
    read_answers,
    read_pairs,
)
from nirvana_mri.train.index import read_index
from nirvana_mri.train.lesions import Lesion, insert_lesions
from nirvana_mri.train.loop import train
from nirvana_mri.train.objective import AnswerObjective, make_objective
from nirvana_mri.train.subjects import subjects_of

KNOWN = Known("knees/file1", 3, False, "equispaced", 4.04, 15, 23.4, (320, 320))


def reader() -> NirvanaRecon:
    """A tiny model whose language model has the words of a tokenizer."""
    words = tiny_tokenizer()
    config = tiny_config()
    lm = replace(config.lm, vocab_size=words.vocab_size, initializer_range=0.1)
    torch.manual_seed(0)
    backbone = NirvanaLM(lm).requires_grad_(False).eval()
    return NirvanaRecon(replace(config, lm=lm), backbone, words)


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    data = tmp_path / "data"
    data.mkdir()
    tiny_scan(64, 56, slices=2, out=data / "a.h5", seed=1)
    np.save(data / "b.npy", head(150, 140, 3))
    save_checkpoint(reader(), tmp_path / "start.safetensors", covers={}, training={})
    return TrainConfig(
        data, tmp_path / "run", stage="encoder", start_from=str(tmp_path / "start.safetensors"), max_steps=3,
        workers=0, warm_up=1, held_out=("a",), logs=("none",), largest=128,
    )  # fmt: skip


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
    lesion = Lesion(60, 150, 8, 20, bright=False)
    simulated = replace(KNOWN, simulated=True, coils=1, lesions=(lesion,))
    assert described(simulated).response.endswith("There is a dark lesion, 20 percent down and 50 percent across.")
    assert "of 1 coil," in described(simulated).response
    assert described(replace(simulated, lesions=())).response.endswith("There is no lesion.")


def test_examples_know_what_they_are(config: TrainConfig) -> None:
    index = read_index(config.data)
    for name, simulated in (("a", False), ("b", True)):
        examples = Examples(subjects_of(index, [name]), config, Answers())
        found = [examples[number] for number in range(8)]
        assert all((each.known.simulated, each.known.name) == (simulated, name) for each in found)
        assert all(each.exchange is not None and f"{each.known.coils} coil" in each.exchange.response for each in found)
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
        "file,slice,study_level,x,y,width,height,label\nfile1,3,No,1,2,3,4,Tear \nfile1,3,No,1,2,3,4,Effusion\n"
        "file1,3,No,1,2,3,4,Tear\nfile2,0,Yes,,,,,artifact\n"
    )
    (tmp_path / "knee_file_list.csv").write_text("file1\nfile3\n")
    answers = read_answers(pairs, labels)
    draw = np.random.default_rng(0)
    said = {answers.of(KNOWN, draw) for _ in range(20)}
    assert said == {Exchange(DESCRIBE, "A."), Exchange(FINDINGS, "Effusion; Tear.")}
    assert answers.of(replace(KNOWN, slice=4), draw) == Exchange(FINDINGS, NOTHING)
    assert answers.of(replace(KNOWN, name="file9"), draw) == Exchange("Why?", "B.")
    assert answers.of(replace(KNOWN, name="x/file2"), draw) == Exchange(FINDINGS, "artifact.")
    assert answers.of(replace(KNOWN, name="file3"), draw) == Exchange(FINDINGS, NOTHING)
    assert answers.of(replace(KNOWN, name="file7"), draw) == described(replace(KNOWN, name="file7"))
    assert len({answers.sha256, read_answers(None, labels).sha256, Answers().sha256}) == 3


@pytest.mark.parametrize("name", ["knee", "brain"])
def test_the_real_annotations_are_read(shared_data: Path, name: str) -> None:
    found, reviewed = read_annotations(shared_data / "annotations" / f"{name}.csv")
    labels = {label for exchange in found.values() for label in exchange.response.removesuffix(".").split("; ")}
    assert len(labels) == {"knee": 22, "brain": 30}[name]
    listed = (shared_data / "annotations" / f"{name}_file_list.csv").read_text().splitlines()
    assert reviewed >= {line.strip() for line in listed} - {""}
    assert all(label == label.strip() for label in labels)


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
    path.write_text("file,slice,study_level,label\na,x,No,Tear\n")
    with pytest.raises(DataError, match="line 2 lacks"):
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
    assert sum(losses[12:]) < sum(losses[:12])
    again = replace(config, resume=True, max_steps=25, pairs=config.out / "pairs.jsonl")
    again.pairs.write_text('{"file": "a", "response": "New."}')  # type: ignore[union-attr]
    with pytest.raises(nm.errors.CheckpointError, match="begun with answers"):
        train(replace(again, learning_rate=1e-2, validate_every=12))
