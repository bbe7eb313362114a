"""Stage encoder with a map of labels: the encoder learns to see, what it tells the language model learns to be said."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from language_support import tiny_tokenizer
from reader_support import lessons, reader
from safetensors.torch import load_file

import nirvana_mri as nm
from nirvana_mri.errors import CheckpointError, UsageError
from nirvana_mri.findings.grammar import Grammar
from nirvana_mri.findings.statement import GRID, cells_of
from nirvana_mri.findings.vocabulary import vocabulary
from nirvana_mri.recon.model import NirvanaRecon
from nirvana_mri.train import TrainConfig
from nirvana_mri.train.data import Example, Examples
from nirvana_mri.train.engine import make_engine
from nirvana_mri.train.exchange import Answers, Exchange, lesions_told
from nirvana_mri.train.index import read_index
from nirvana_mri.train.loop import train
from nirvana_mri.train.objective import SIGHT, AnswerObjective, make_objective
from nirvana_mri.train.subjects import subjects_of


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    return lessons(tmp_path)


def lesion_examples(config: TrainConfig, count: int) -> list[Example]:
    """Simulated slices of one matrix, each told of its lesions."""
    examples = Examples(subjects_of(read_index(config.data), ["b"]), replace(config, batch=count), Answers())
    return [replace(each, exchange=lesions_told(each.known)) for each in (examples[n] for n in range(count))]


def test_an_encoder_that_knows_labels_learns_where_they_are_and_words_do_not_spoil_that(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written out: the map against the answer's cells, and half of each way to tell; no word's gradient in the map."""
    model = reader(labels=2)
    objective = make_objective(config, model, make_engine(config).lowered, "simulated")
    assert isinstance(objective, AnswerObjective)
    examples = lesion_examples(config, 4)
    truth = torch.zeros(4, 2, 16, 16)
    for row, example in enumerate(examples):
        for lesion in example.known.lesions:
            box = (lesion.column, lesion.row, lesion.width, lesion.height)
            top, bottom, left, right = cells_of(box, example.known.matrix)
            truth[row, 0 if lesion.bright else 1, top - 1 : bottom, left - 1 : right] = 1
    assert truth.any()
    problems = [each.problem for each in examples]
    with torch.no_grad():
        logits = model.label_map(model.patches(problems), problems)
        seen, right = (sum(told(model, each, map_) for each, map_ in zip(examples, maps, strict=True))
                       for maps in (logits.sigmoid(), truth))  # fmt: skip
    expected = SIGHT * 4 * float(F.binary_cross_entropy_with_logits(logits, truth)) + (seen + right) / 2
    model.requires_grad_(False)
    model.encoder.requires_grad_(True)
    loss = objective(examples)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    with torch.no_grad():
        assert sum(objective.judge(each, None, "")[0] for each in examples) == pytest.approx(seen, rel=1e-5)
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.encoder.parameters())
    assert all(p.grad.abs().sum() > 0 for p in (*model.encoder.sight.parameters(), *model.encoder.vit.parameters()))
    model.zero_grad()
    monkeypatch.setattr("nirvana_mri.train.objective.SIGHT", 0.0)
    objective(examples).backward()
    for name, parameter in model.encoder.named_parameters():
        assert bool(parameter.grad.abs().sum() > 0) is name.startswith("speaker."), name


def told(model: NirvanaRecon, example: Example, likelihoods: torch.Tensor) -> float:
    """The loss of an answer when the language model is told of a map after the question, from all logits."""
    words, backbone = tiny_tokenizer(), model.backbone
    assert example.exchange is not None
    assert backbone is not None
    question, response = (words.encode(f" {text}") for text in (example.exchange.prompt, example.exchange.response))
    response = [*response, words.end_id]
    before, after = (backbone.embedding(torch.tensor([ids])) for ids in (question, response))
    given = torch.cat([before, model.encoder.speaker(likelihoods[None]), after], dim=1)
    logits = backbone(inputs_embeds=given).logits[0, -len(response) - 1 : -1]
    allowed = Grammar(vocabulary("simulated"), words).choices(response)
    losses = [
        F.cross_entropy(row[tokens], torch.tensor(tokens.index(token)))
        for row, token, tokens in zip(logits, response, allowed, strict=True)
        if len(tokens) > 1
    ]
    return float(torch.stack(losses).mean())


def test_free_answers_reach_a_map_of_labels_with_a_tenth_of_their_gradient(config: TrainConfig) -> None:
    example = replace(lesion_examples(config, 1)[0], exchange=Exchange("What?", "Short."))
    gradients = []
    for labels in (0, 2):
        model = reader(labels)
        model.encoder.load_state_dict(reader().encoder.state_dict(), strict=False)
        objective = make_objective(config, model, make_engine(config).lowered, "simulated")
        objective([example]).backward()
        gradients.append(model.encoder.vit.embed.weight.grad)
    torch.testing.assert_close(gradients[1], 0.1 * gradients[0])


def test_a_new_encoder_learns_the_labels_of_what_it_is_taught(config: TrainConfig) -> None:
    sizes = replace(config, start_from=None, held_out=(), validation_fraction=0.0, batch=2, largest=64)
    path = train(sizes)
    loaded = nm.load_model(path)
    encoder = loaded.model.config.encoder
    assert (encoder.stem, encoder.labels, encoder.cells) == ("convolutions", 2, GRID)
    assert nm.draft_findings(nm.open_scan(config.data / "a.h5"), loaded, accelerate=3, center_fraction=0.2).findings
    whole = train(replace(sizes, out=config.out.parent / "whole", max_steps=5))
    cut = replace(sizes, out=config.out.parent / "cut", max_steps=5, checkpoint_every=1)

    def stop(step: int, *_: object) -> None:
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(cut, stop)
    ends = [load_file(whole), load_file(train(replace(cut, resume=True)))]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    with pytest.raises(CheckpointError, match="begun with encoder"):  # that of nano is another
        train(replace(cut, resume=True, start_from="nano", max_steps=6))
    labels = config.data / "knee.csv"
    labels.write_text("file,slice,study_level,x,y,width,height,label\na,1,No,1,2,3,4,Meniscus Tear\n")
    other = replace(sizes, start_from=str(path), annotations=labels, out=config.out.parent / "knee")
    with pytest.raises(UsageError, match=r"knows 2 labels, the vocabulary 'knee' has"):
        train(other)


def test_low_precision_of_seeing_and_speaking_stays_near(config: TrainConfig) -> None:
    examples = lesion_examples(config, 3)
    examples[0] = replace(examples[0], exchange=Exchange("What?", "Short."))
    losses = []
    for lowered in (nullcontext, lambda: torch.autocast("cpu", torch.bfloat16)):
        model = reader(labels=2)
        loss = make_objective(config, model, lowered, "simulated")(examples)
        loss.backward()
        losses.append(float(loss.detach()))
        assert all(p.grad.dtype == torch.float32 for p in model.encoder.parameters() if p.grad is not None)
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
