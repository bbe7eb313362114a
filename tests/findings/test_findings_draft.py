"""From a scan to draft findings: what is seen decides what is said, and who was not taught says nothing."""

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from language_support import tiny_tokenizer
from reader_support import reader
from tiny import head, tiny_scan
from typer.testing import CliRunner

import nirvana_mri as nm
from nirvana_mri.cli.app import app
from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.findings.finding import WATERMARK
from nirvana_mri.findings.statement import Statement, cells_of, words_of
from nirvana_mri.findings.vocabulary import Vocabulary, vocabulary
from nirvana_mri.recon.checkpoint import LoadedModel, load_model, save_checkpoint
from nirvana_mri.recon.model import NirvanaRecon
from nirvana_mri.recon.problem import prepare_slice
from nirvana_mri.recon.simulate import simulate
from nirvana_mri.scan import Scan
from nirvana_mri.train.data import Example
from nirvana_mri.train.exchange import Exchange, Known
from nirvana_mri.train.objective import AnswerObjective

LESIONS = (("bright lesion", (8, 12, 14, 14), 2.5), ("dark lesion", (32, 36, 14, 14), 0.1))


def eager(labels: int = 0) -> NirvanaRecon:
    """A reader whose tokens differ enough between scans to be learned in seconds."""
    model = reader(labels, "convolutions" if labels else "linear")
    with torch.no_grad():
        model.encoder.project.weight.mul_(8)
    return model


def with_lesion(box: tuple[int, int, int, int], gain: float, seed: int, out: Path | None = None) -> Scan:
    picture = head(64, 56, seed=seed)
    x, y, width, height = box
    picture[0, y : y + height, x : x + width] *= gain
    return simulate(picture, coils=4, noise=0.005, seed=seed, name="head", out=out)


def taught_file(model: NirvanaRecon, path: Path, spoken: Vocabulary, **covers: object) -> LoadedModel:
    told = {"findings": {"vocabulary": spoken.name, "sha256": spoken.sha256}, "metrics": {"answer_loss": 0.25}}
    save_checkpoint(model, path, covers=covers, training=told)
    return load_model(path)


@pytest.fixture(scope="module")
def two_scans() -> tuple[Scan, Scan]:
    return tuple(with_lesion(box, gain, seed) for seed, (_, box, gain) in enumerate(LESIONS))  # type: ignore[return-value]


@pytest.fixture(scope="module", params=[0, 2], ids=["all patches", "a map of labels"])
def taught(
    two_scans: tuple[Scan, Scan], tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> LoadedModel:
    """A model that has learned two scans by heart. Its tiny language model is drawn, not pretrained, and learns along
    here, which training proper never allows.
    """
    spoken, model = vocabulary("simulated"), eager(request.param)
    objective = AnswerObjective(model, nullcontext, tiny_tokenizer(), spoken.name)
    examples = []
    for scan, (label, box, _) in zip(two_scans, LESIONS, strict=True):
        problem = prepare_slice(scan.kspace[0], np.ones(scan.shape[-1], bool), scan.crop)
        answer = spoken.answer([Statement(label, cells_of(box, problem.crop))])
        told = Exchange(spoken.question, words_of(answer), spoken.name)
        known = Known("head", 0, True, "random", 1.0, 4, 20.0, problem.crop)
        examples.append(Example(problem, torch.zeros(problem.crop), 1.0, known, told))
    model.requires_grad_(False)
    learning = [*model.encoder.parameters(), *model.backbone.parameters()]  # type: ignore[union-attr]
    for parameter in learning:
        parameter.requires_grad_(True)
    optimizer = torch.optim.Adam(learning, lr=0.01)
    for _ in range(200):
        optimizer.zero_grad()
        loss = objective(examples)
        if float(loss.detach()) < 0.05:
            break
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
    assert float(loss.detach()) < 0.05
    path = tmp_path_factory.mktemp("taught") / "taught.safetensors"
    return taught_file(model, path, spoken, anatomy=["brain"])


def test_another_scans_kspace_changes_the_findings(taught: LoadedModel, two_scans: tuple[Scan, Scan]) -> None:
    drafts = [nm.draft_findings(scan, taught) for scan in two_scans]
    for draft, (label, box, _) in zip(drafts, LESIONS, strict=True):
        present = [each for each in draft.findings if not each.negated]
        assert [each.label for each in present] == [label]
        assert cells_of(present[0].box, draft.matrix) == cells_of(box, draft.matrix)
        assert present[0].slices == (0,)
        (denied,) = (each for each in draft.findings if each.negated)
        assert (denied.label != label, denied.box) == (True, (0, 0, 56, 64))
    assert nm.draft_findings(two_scans[0], taught) == drafts[0]
    crossed = replace(two_scans[0], kspace=two_scans[1].kspace)
    assert nm.draft_findings(crossed, taught).findings == drafts[1].findings


def test_a_draft_is_json_and_every_text_of_it_is_marked(taught: LoadedModel, two_scans: tuple[Scan, Scan]) -> None:
    draft = nm.draft_findings(two_scans[0], taught, accelerate=3, mask="random", center_fraction=0.2, seed=1)
    told = json.loads(json.dumps(draft.as_dict()))
    assert told["watermark"] == WATERMARK == "machine draft, unverified, not for clinical use"
    assert list(told["text"]) == ["exam", "technique", "findings", "impression", "limits"]
    assert all(text.startswith(f"[{WATERMARK}]") for text in told["text"].values())
    assert (told["model"], told["model_sha256"]) == (taught.name, taught.sha256)
    for each in told["findings"]:
        assert set(each) == {"label", "structure", "slices", "box", "negated", "score"}
        assert each["structure"] == vocabulary("simulated").label(each["label"]).structure
        assert each["label"] in told["text"]["findings"].lower()
    assert ("map of the labels" in told["text"]["technique"]) is taught.model.knows_labels
    assert "uncalibrated" in told["score"]
    assert "none of them is a disease" in told["text"]["limits"]
    assert "0.25 nats" in told["text"]["limits"]
    assert "random" not in repr(draft)


def test_who_was_not_taught_is_refused(tmp_path: Path) -> None:
    scan, spoken = tiny_scan(), vocabulary("simulated")
    with pytest.raises(UsageError, match=r"nano was never taught to say findings.*train --stage encoder"):
        nm.draft_findings(scan, "nano")
    taught = taught_file(eager(), tmp_path / "a.safetensors", spoken)
    old = replace(taught, training={"findings": {"vocabulary": "simulated", "sha256": "0" * 64}})
    with pytest.raises(UsageError, match="was taught another vocabulary"):
        nm.draft_findings(scan, old)
    with pytest.raises(UsageError, match="expected at least one of 0 to 0"):
        nm.draft_findings(scan, taught, slices=[1])


def test_what_was_not_taught_is_refused_or_minded(tmp_path: Path) -> None:
    scan = tiny_scan()
    shown = {name: replace(scan, metadata={"acquisition": name}) for name in ("AXT2", "CORPD_FBK")}
    knee = taught_file(eager(), tmp_path / "knee.safetensors", vocabulary("knee"))
    with pytest.raises(DataError, match="seems to be of the brain; model knee was taught findings of the knee only"):
        nm.draft_findings(shown["AXT2"], knee)
    draft = nm.draft_findings(scan, knee)
    assert "read as knee" in draft.text["exam"]
    assert any("does not say what it shows" in note for note in draft.warnings)
    brain = taught_file(eager(), tmp_path / "heads.safetensors", vocabulary("simulated"), anatomy=["brain"])
    with pytest.raises(DataError, match="seems to be of the knee"):
        nm.draft_findings(shown["CORPD_FBK"], brain)


def test_a_report_has_findings_only_when_asked_and_able(tmp_path: Path) -> None:
    """Untrained weights serve here: not whether the draft is right is looked at, but what becomes of it."""
    spoken = vocabulary("simulated")
    taught_file(eager(), tmp_path / "taught.safetensors", spoken)
    with_lesion(LESIONS[0][1], LESIONS[0][2], 0, tmp_path / "head.h5")
    words = ["report", str(tmp_path / "head.h5"), "--method", "sense", "--accelerate", "2", "--alone"]
    page, facts = tmp_path / "page.html", tmp_path / "facts.json"
    drafting = ["--findings", "--findings-model", str(tmp_path / "taught.safetensors"), "--json", str(facts)]
    done = CliRunner().invoke(app, [*words, "-o", str(page), *drafting])
    assert done.exit_code == 0, done.stderr
    stored = json.loads(facts.read_text())
    assert WATERMARK.startswith("machine draft")
    assert stored["watermark"] == WATERMARK
    assert stored["findings"]
    assert {"label", "structure", "slices", "box", "negated", "score"} <= set(stored["findings"][0])
    assert page.read_text(encoding="utf-8").count(WATERMARK) > 2
    done = CliRunner().invoke(app, [*words, "-o", str(tmp_path / "other.html"), "--findings"])
    assert done.exit_code == 2
    assert "stage encoder" in done.stderr
    assert not (tmp_path / "other.html").exists()
    assert CliRunner().invoke(app, [*words, "-o", str(facts), "--findings-model", "x"]).exit_code == 2
