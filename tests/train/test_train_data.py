from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import head, tiny_scan

from nirvana_mri.errors import ScanError, UsageError
from nirvana_mri.physics.fourier import fft2c
from nirvana_mri.recon.hybrid import hybrid_slice, prepare_hybrid
from nirvana_mri.train import MaskRecipe, TrainConfig, augment
from nirvana_mri.train.augment import blemish, vary_picture
from nirvana_mri.train.data import PLANAR, Examples, draw_mask, draw_rows
from nirvana_mri.train.index import read_index
from nirvana_mri.train.loss import image_loss, ssim
from nirvana_mri.train.subjects import Subject, subjects_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    data.mkdir()
    tiny_scan(96, 80, slices=2, out=data / "a.h5")
    tiny_scan(96, 80, slices=2, out=data / "b.h5")
    np.save(data / "c.npy", head(96, 80, 3))
    (data / "notes.txt").write_text("not data")
    return data


def subjects(folder: Path) -> list[Subject]:
    index = read_index(folder)
    return subjects_of(index, [entry.name for entry in index.entries])


def _config(folder: Path, **changes: object) -> TrainConfig:
    return TrainConfig(folder, folder / "out", rows=48, **changes)  # type: ignore[arg-type]


def test_an_example_is_a_function_of_seed_and_step(folder: Path) -> None:
    config = _config(folder)
    again = [Examples(subjects(folder), config)[5] for _ in range(2)]
    assert torch.equal(again[0].problem.data, again[1].problem.data)
    assert torch.equal(again[0].target, again[1].target)
    other = Examples(subjects(folder), config)[6]
    assert other.target.shape != again[0].target.shape or not torch.equal(other.target, again[0].target)


def test_a_slice_that_cannot_be_read_is_named_and_another_drawn(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its header is whole, so the index takes it; its samples are not."""
    known = subjects(folder)
    with h5py.File(folder / "b.h5", "a") as file:
        file["kspace"][0, 0, 5, 40] = np.nan
    (folder / "c.npy").unlink()
    examples = Examples([each for each in known if each.name in "ab"], _config(folder, skip_bad=True))
    drawn = [examples[step] for step in range(12)]
    assert "b.h5" in caplog.text
    assert all(torch.isfinite(example.target).all() for example in drawn)
    strict = Examples(examples.subjects, _config(folder))
    with pytest.raises(ScanError, match=r"b\.h5"):
        [strict[step] for step in range(12)]


def test_targets_match_what_a_problem_finishes(folder: Path) -> None:
    """The picture a model is asked for has the size and scale of its target, whatever the mask kind."""
    kinds = set()
    examples = Examples(subjects(folder), _config(folder))
    for step in range(12):
        example = examples[step]
        kinds.add(example.problem.operator.hybrid)
        image = example.problem.operator.adjoint(example.problem.data)
        assert example.problem.finish(image).shape == example.target.shape
        assert example.data_range > 0
        # The scale is right: the measured centre holds most of a picture's energy.
        ratio = float((example.problem.finish(image) / example.problem.scale).sum() / example.target.sum())
        assert 0.5 < ratio < 1.5
    assert kinds == {True, False}


@pytest.mark.parametrize("batch", [1, 3])
def test_the_examples_of_a_step_fit_into_one_batch(folder: Path, batch: int) -> None:
    """Scans of another size are never joined with others; of pictures, every example has the matrix of the step."""
    tiny_scan(64, 56, slices=2, out=folder / "d.h5", seed=3)
    config = _config(folder, batch=batch, max_steps=8, emphasis=("c",))
    examples = Examples(subjects(folder), config)
    assert len(examples) == 8 * batch
    seen = set()
    for step in range(8):
        drawn = [examples[step * batch + member] for member in range(batch)]
        assert len({example.matrix for example in drawn}) == 1
        assert len({example.problem.operator.hybrid for example in drawn}) == 1
        assert len({float(example.target.sum()) for example in drawn}) == batch
        seen.add(drawn[0].matrix)
    assert len(seen) > 2
    again = Examples(subjects(folder), config)[4]
    assert torch.equal(again.target, examples[4].target)


def test_moving_an_example_changes_nothing_but_the_place(folder: Path) -> None:
    example = Examples(subjects(folder), _config(folder))[0]
    moved = example.to("meta")
    tensors = (moved.problem.data, moved.problem.operator.maps, moved.problem.operator.mask, moved.problem.certainty)
    assert all(tensor.is_meta for tensor in (*tensors, moved.target))
    assert (moved.matrix, moved.data_range) == (example.matrix, example.data_range)


def test_a_strip_is_the_same_problem_on_fewer_rows() -> None:
    scan = tiny_scan(96, 80)
    mask = np.arange(80) % 2 == 0
    mask[30:50] = True
    whole = hybrid_slice(scan.kspace[0], scan.acquired, scan.crop)
    rows = draw_rows(torch.from_numpy(whole.target), 32, np.random.default_rng(0))
    assert rows.stop - rows.start == 32
    problem, strip = (prepare_hybrid(whole, mask, each) for each in (slice(None), rows))
    wanted, found = (each.operator.adjoint(each.data) for each in (problem, strip))
    torch.testing.assert_close(found, wanted[rows])
    torch.testing.assert_close(strip.certainty, problem.certainty[rows])
    assert (strip.noise, strip.scale, strip.calibration) == (problem.noise, problem.scale, problem.calibration)
    assert strip.finish(found).shape == (32, 80)


def test_strips_lie_where_the_picture_is_bright() -> None:
    target = torch.zeros(200, 40)
    target[130:140] = 1
    tops = {draw_rows(target, 30, np.random.default_rng(seed)).start for seed in range(40)}
    assert tops <= set(range(115, 125))
    assert len(tops) > 5
    assert draw_rows(target, 200, np.random.default_rng(0)) == slice(None)


def test_varied_pictures_are_even_bounded_and_various() -> None:
    sizes = set()
    for seed in range(12):
        picture = vary_picture(head(200, 180)[0], np.random.default_rng(seed), 160)
        assert picture.dtype == torch.complex64
        assert torch.isfinite(picture.abs()).all()
        assert all(n % 2 == 0 and n <= 160 for n in picture.shape)
        assert float(picture.abs().max()) == pytest.approx(1)
        sizes.add(tuple(picture.shape))
    assert len(sizes) > 6


def test_blemishes_are_small_faint_and_inside() -> None:
    image = torch.from_numpy(head(200, 180)[0])
    ratios = []
    for seed in range(6):
        ratio = (blemish(image, np.random.default_rng(seed)) / image.clamp_min(1e-9))[image > 0.1]
        assert torch.equal(blemish(image, np.random.default_rng(seed))[image == 0], image[image == 0])
        assert 0.2 < float(ratio.min()) < 0.99 < 1.01 < float(ratio.max()) < 3  # both ways, also where spots overlap
        ratios.append(float(((ratio - 1).abs() > 0.015).float().mean()))
    assert 0 < min(ratios) < max(ratios) < 0.15  # of the object
    nothing = torch.zeros(8, 8)
    assert torch.equal(blemish(nothing, np.random.default_rng(0)), nothing)


def test_where_lesions_are_told_nothing_else_looks_like_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shapes that are not spoken of would be lesions that the answer denies."""
    seen = []
    for name in ("strew", "blemish"):
        monkeypatch.setattr(augment, name, lambda image, draw, name=name: seen.append(name) or image)
    for seed in range(12):
        vary_picture(head(150, 120)[0], np.random.default_rng(seed), 160, spots=False)
    assert not seen
    for seed in range(12):
        vary_picture(head(150, 120)[0], np.random.default_rng(seed), 160)
    assert set(seen) == {"strew", "blemish"}


def test_subjects_ask_for_no_spots_where_lesions_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", head(130, 120, 2))
    asked: list[bool] = []

    def spy(*given: Any, spots: bool = True) -> torch.Tensor:
        asked.append(spots)
        return vary_picture(*given, spots=spots)

    monkeypatch.setattr("nirvana_mri.train.subjects.vary_picture", spy)
    (subject,) = subjects_of(read_index(tmp_path), ["a"])
    for lesions in (True, False):
        subject.measure(np.random.default_rng(0), 128, lesions=lesions)
    assert asked == [False, True]


@pytest.mark.parametrize("matrix", [(112, 130), (40, 200)])
def test_varied_pictures_have_the_matrix_that_is_asked_for(matrix: tuple[int, int]) -> None:
    for seed in range(6):
        picture = vary_picture(head(150, 120)[0], np.random.default_rng(seed), 256, matrix)
        assert tuple(picture.shape) == matrix
        assert float(picture.abs().max()) == pytest.approx(1)
        outside = fft2c(picture).abs()
        assert float(outside[0].mean()) > 1e-5 * float(outside.max())  # no empty outer k-space


def test_training_ssim_is_the_ssim_that_is_scored() -> None:
    from nirvana_mri.eval.metrics import ssim as scored

    draw = np.random.default_rng(0)
    target = head(50, 40)
    prediction = (target + 0.1 * draw.standard_normal(target.shape)).astype(np.float32)
    ours = ssim(torch.from_numpy(prediction[0]), torch.from_numpy(target[0]), float(target.max()))
    # skimage averages over the same whole windows
    assert float(ours) == pytest.approx(scored(target, prediction), abs=2e-5)


def test_the_loss_ignores_scale_and_vanishes_on_the_target() -> None:
    target = torch.from_numpy(head()[0])
    prediction = target + 0.05 * torch.randn(target.shape, generator=torch.Generator().manual_seed(0))
    plain = image_loss(prediction, target, 1.3, 1.0)
    torch.testing.assert_close(image_loss(prediction * 1e-9, target * 1e-9, 1.3e-9, 1.0), plain, rtol=1e-4, atol=0)
    assert float(image_loss(target, target, 1.3, 1.0)) == pytest.approx(0, abs=1e-6)
    assert float(plain) > 0.01


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stage": "all"}, "stage is 'all'"),
        ({"max_steps": 0}, "max_steps is 0"),
        ({"batch": 0}, "batch is 0"),
        ({"micro": -1}, "micro is -1"),
        ({"learning_rate": 2.0}, "learning rate is 2.0"),
        ({"validation_fraction": 1.0}, "validation fraction"),
        ({"average": 1.0}, "average is 1.0"),
    ],
)
def test_impossible_settings_are_refused(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TrainConfig(tmp_path, tmp_path, **change)


def test_mask_weights_must_sum_to_one() -> None:
    with pytest.raises(UsageError, match="sum to"):
        MaskRecipe(kinds=("random",), kind_weights=(0.4,))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(MaskRecipe().kinds), st.integers(16, 80), st.integers(16, 80), st.integers(0, 2**31))
def test_a_small_matrix_is_sampled_less_fast_or_refused(kind: str, ny: int, nx: int, seed: int) -> None:
    """Whatever can be drawn leaves samples beside the calibration region; what cannot says so."""
    recipe, draw = MaskRecipe(), np.random.default_rng(seed)
    if (min(ny, nx) if kind in PLANAR else nx) < 24:  # at 3x: 12 / sqrt(0.25), 6 / 0.25
        with pytest.raises(ScanError, match="too small"):
            draw_mask(recipe, kind, (ny, nx), draw)
        return
    mask = np.broadcast_to(draw_mask(recipe, kind, (ny, nx), draw), (ny, nx))
    assert mask.mean() < 0.75
    assert mask.any(axis=0)[nx // 2]
