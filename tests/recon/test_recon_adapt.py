"""Scan-specific adaptation: what it may look at, when it is believed, and that it leaves the model alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_model, tiny_scan

import nirvana_mri as nm
from nirvana_mri.errors import UsageError
from nirvana_mri.physics.masks import make_mask
from nirvana_mri.recon import adapt as module
from nirvana_mri.recon.adapt import MOST_SLICES, _Split, _step, adapt
from nirvana_mri.recon.batch import Recipe
from nirvana_mri.recon.checkpoint import backbone_sha256
from nirvana_mri.recon.model import NirvanaRecon
from nirvana_mri.recon.problem import SliceProblem, prepare_slice
from nirvana_mri.recon.split import spread_evenly

FAST = {"accelerate": 2, "center_fraction": 0.2}


def problem_of(kind: str = "equispaced_fraction", seed: int = 0, scale: float = 1.0) -> SliceProblem:
    scan = tiny_scan()
    mask = make_mask(kind, scan.shape[2:], 2, 0.3, seed)
    return prepare_slice(scan.kspace[0] * np.float32(scale), mask, scan.crop)


def weights_of(model: NirvanaRecon) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("kind", ["equispaced_fraction", "poisson"])
def test_the_samples_are_cut_in_three(kind: str) -> None:
    problem = problem_of(kind)
    split = _Split.of(problem, np.random.default_rng(0))
    parts = torch.stack([split.always, split.open, split.aside])
    assert parts.sum(0).max() == 1
    assert torch.equal(parts.any(0), problem.operator.mask)
    assert all(int(part.sum()) > 0 for part in parts)
    assert not split.shown.data[..., split.aside].any()


@pytest.mark.parametrize("kind", ["equispaced_fraction", "poisson"])
def test_what_is_set_aside_teaches_nothing(kind: str) -> None:
    learned = []
    for spoiled in (False, True):
        problem = problem_of(kind)
        split = _Split.of(problem, np.random.default_rng(0))
        if spoiled:
            problem.data[..., split.aside] = torch.nan
            split = _Split.of(problem, np.random.default_rng(0))
        model = tiny_model().requires_grad_(True)
        optimizer = torch.optim.Adam([*model.encoder.parameters(), *model.decoder.parameters()], 1e-3)
        draw = np.random.default_rng(1)
        for _ in range(2):
            _step(model, split, optimizer, draw)
        learned.append(weights_of(model))
    assert equal(*learned)
    assert not equal(learned[0], weights_of(tiny_model()))


@pytest.mark.parametrize("kind", ["equispaced_fraction", "poisson"])
def test_a_model_that_is_wrong_for_this_scan_gets_better(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEARNING_RATE", 3e-3)
    problem, model = problem_of(kind), tiny_model()
    other = problem_of(kind, seed=1)
    for unet in model.decoder.cascades:  # as if trained for something else
        torch.nn.init.normal_(unet.leave.weight, 0, 0.2)
    before = weights_of(model)
    adapted, came = adapt(model, [problem, other], 30)
    assert came.kept
    assert 0 < came.best <= came.steps <= 30
    assert came.slices == 2
    assert came.after < 0.8 * came.before
    assert equal(before, weights_of(model))
    assert not equal(before, weights_of(adapted))
    assert backbone_sha256(adapted) == backbone_sha256(model)
    assert not any(parameter.requires_grad for parameter in adapted.parameters())
    truth = rss_of_all()
    assert wrong(adapted, problem, truth) < wrong(model, problem, truth)


def rss_of_all() -> np.ndarray:
    return nm.reconstruct(tiny_scan()).voxels[0]


def wrong(model: NirvanaRecon, problem: SliceProblem, truth: np.ndarray) -> float:
    with torch.no_grad():
        return float(np.linalg.norm(problem.finish(model([problem])[0]).numpy() - truth))


def test_where_nothing_is_gained_the_model_is_used_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEARNING_RATE", 10.0)
    model = tiny_model()
    adapted, came = adapt(model, [problem_of()], 2)
    assert adapted is model
    assert not came.kept
    assert came.after <= came.before
    scan = tiny_scan()
    plain, tried = (nm.reconstruct(scan, model, adapt=steps, **FAST) for steps in (0, 2))
    np.testing.assert_array_equal(plain.voxels, tried.voxels)
    assert "adaptation" not in plain.provenance
    assert tried.provenance["adaptation"]["kept"] is False


def test_a_gain_that_one_column_made_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([[1.0, 1.0, 1.0, 1.0], [0.2, 1.05, 0.97, 1.0]])
    monkeypatch.setattr(module, "_errors", lambda *_: torch.tensor(next(found), dtype=torch.float64))
    assert not adapt(tiny_model(), [problem_of()], 1)[1].kept
    found = iter([[1.0, 1.0, 1.0, 1.0], [0.8, 0.75, 0.85, 0.8]])
    assert adapt(tiny_model(), [problem_of()], 1)[1].kept


def test_the_codecs_judged_best_are_used_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = [[1.0, 1.0, 1.0], [0.5, 0.6, 0.55], [0.9, 0.9, 0.9]]
    weights: list[torch.Tensor] = []

    def judge(learner: NirvanaRecon, _: object) -> torch.Tensor:
        weights.append(learner.decoder.log_prior.detach().clone())
        return torch.tensor(errors[len(weights) - 1], dtype=torch.float64)

    monkeypatch.setattr(module, "EVERY", 1)
    monkeypatch.setattr(module, "_errors", judge)
    adapted, came = adapt(tiny_model(), [problem_of()], 2)
    assert (came.best, came.steps, came.kept) == (1, 2, True)
    assert torch.equal(adapted.decoder.log_prior, weights[1])
    assert not torch.equal(weights[1], weights[2])


def test_slices_with_nothing_in_them_are_passed_over() -> None:
    full = tiny_scan(slices=3)
    kspace = np.stack([full.kspace[0], *np.zeros((2, *full.shape[1:]), np.complex64)])
    scan = replace(full, kspace=kspace, raw=False)
    came = nm.reconstruct(scan, tiny_model(), adapt=1, **FAST).provenance["adaptation"]
    assert came["slices"] == 1
    with pytest.raises(UsageError, match="nothing in the slices"):
        nm.reconstruct(scan, tiny_model(), slices=[1, 2], adapt=1, **FAST)


def test_it_stops_when_it_gets_no_better(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY", 1)
    monkeypatch.setattr(module, "_errors", lambda *_: torch.ones(4, dtype=torch.float64))
    assert adapt(tiny_model(), [problem_of()], 50)[1].steps == module.PATIENCE


def test_the_same_seed_gives_the_same_model_and_a_scaled_scan_too() -> None:
    models = [adapt(tiny_model(), [problem_of(scale=scale)], 3, seed=seed) for scale, seed in ((1, 0), (4, 0), (1, 1))]
    once, scaled, other = (came for _, came in models)
    assert (once.before, once.after) == (scaled.before, scaled.after)
    assert once.before != other.before  # other samples were set aside


@pytest.mark.parametrize(("count", "chosen"), [(1, [0]), (2, [0, 1]), (4, [0, 1, 2, 3]), (9, [1, 3, 5, 7])])
def test_few_slices_stand_for_all(count: int, chosen: list[int]) -> None:
    assert spread_evenly(count, MOST_SLICES) == chosen


def test_steps_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    nm.reconstruct(tiny_scan(), tiny_model(), adapt=2, adapting=lambda *at: told.append(at), **FAST)
    assert told == [(1, 2), (2, 2)]


def test_what_cannot_be_adapted_is_refused() -> None:
    scan, model = tiny_scan(), tiny_model()
    with pytest.raises(UsageError, match="complete"):
        nm.reconstruct(scan, model, adapt=2)
    with pytest.raises(UsageError, match="method nirvana"):
        nm.reconstruct(scan, model, "sense", adapt=2, **FAST)
    with pytest.raises(UsageError, match="-1"):
        nm.reconstruct(scan, model, adapt=-1, **FAST)
    only_centre = np.zeros(56, bool)
    only_centre[20:36] = True
    only_centre[[2, 50]] = True
    with pytest.raises(UsageError, match="2 measured columns"):
        nm.reconstruct(scan, model, mask=only_centre, adapt=2)


def test_a_request_without_it_is_what_it_was() -> None:
    assert "adapt" not in Recipe().request(None)
    assert replace(Recipe(), adapt=3).request(None)["adapt"] == 3


def test_the_command_says_what_it_brought(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from nirvana_mri.cli.app import app
    from nirvana_mri.io.writers.load_h5 import load_h5

    tiny_scan(out=tmp_path / "scan.h5")
    given = ["--accelerate", "4", "--center-fraction", "0.08", "--adapt", "1", "--seed", "3"]
    ran = CliRunner().invoke(app, ["reconstruct", str(tmp_path / "scan.h5"), "-o", str(tmp_path / "out.h5"), *given])
    assert ran.exit_code == 0, ran.output
    assert "columns set aside" in ran.stdout
    came = load_h5(tmp_path / "out.h5").provenance["adaptation"]
    assert (came["asked"], came["steps"], came["seed"]) == (1, 1, 3)
    assert came["before"] > 0
