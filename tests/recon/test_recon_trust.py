"""Trust: what is withheld stays unseen, what is invented is counted, and the dial keeps its two promises."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import head, tiny_model, tiny_scan
from torch import Tensor

import nirvana_mri as nm
from nirvana_mri.errors import UsageError
from nirvana_mri.io.save import load_volume
from nirvana_mri.io.writers.derivation import derivation_words
from nirvana_mri.physics.masks import make_mask
from nirvana_mri.recon.baselines import cg_sense
from nirvana_mri.recon.dial import Dial
from nirvana_mri.recon.errorbars import Subject, calibrate, shipped_bars
from nirvana_mri.recon.nullspace import null_space
from nirvana_mri.recon.problem import SliceProblem, prepare_slice
from nirvana_mri.recon.simulate import simulate
from nirvana_mri.recon.split import calibration_centre, misfit
from nirvana_mri.recon.withheld import badge_of, explained_share, miss, residual_of, withhold
from nirvana_mri.scan import Scan

FASTER = {"accelerate": 3, "center_fraction": 0.2}


def problem_of(kind: str = "equispaced_fraction", acceleration: float = 3, scale: float = 1.0) -> SliceProblem:
    scan = tiny_scan()
    mask = np.ones(56, bool) if acceleration == 1 else make_mask(kind, scan.shape[2:], acceleration, 0.2, 0)
    return prepare_slice(scan.kspace[0] * np.float32(scale), mask, scan.crop)


def truth_of(problem: SliceProblem) -> Tensor:
    """The picture that a full measurement of the same slice gives through the same maps."""
    scan = tiny_scan()
    full = prepare_slice(scan.kspace[0], np.ones(56, bool), scan.crop)
    return full.operator.adjoint(full.data) * (full.scale / problem.scale)


@pytest.mark.parametrize("kind", ["equispaced_fraction", "random", "poisson"])
@given(seed=st.integers(0, 1000))
@settings(max_examples=10)
def test_a_tenth_is_withheld_spread_and_never_from_the_centre(kind: str, seed: int) -> None:
    problem = problem_of(kind)
    aside = withhold(problem, (seed,))
    outer = problem.operator.mask & ~calibration_centre(problem)
    assert not (aside & ~outer).any()
    count, of = int(aside.sum()), int(outer.sum())
    assert count == max(2, round(0.1 * of))
    assert torch.equal(aside, withhold(problem, (seed,)))
    places, chosen = np.flatnonzero(outer), np.flatnonzero(aside)
    halves = [part.max() for part in np.array_split(places, count)]
    assert all(low <= high for low, high in zip(chosen, halves, strict=True))


def test_lines_measured_in_part_are_withheld_whole() -> None:
    scan = tiny_scan()
    mask = np.broadcast_to(make_mask("random", (64, 56), 2, 0.2, 0), (64, 56)).copy()
    mask[:14] = False  # partial echo
    problem = prepare_slice(scan.kspace[0], mask, scan.crop)
    aside = withhold(problem, (0,)).numpy()
    touched = aside.any(0)
    assert touched.any()
    assert np.array_equal(aside, mask & touched)
    assert miss(problem, cg_sense).unit == "lines"


@pytest.mark.parametrize("kind", ["equispaced_fraction", "poisson"])
def test_the_method_never_sees_what_is_withheld(kind: str) -> None:
    problem = problem_of(kind)
    aside = withhold(problem, (0,))
    seen: list[SliceProblem] = []

    def solver(given: SliceProblem) -> Tensor:
        seen.append(given)
        return cg_sense(given)

    found = miss(problem, solver)
    assert not seen[0].data[..., aside].any()
    assert not (seen[0].operator.mask & aside).any()
    spoiled = replace(problem, data=torch.where(aside, 100 * problem.data, problem.data))
    spoiled_miss = miss(spoiled, solver)
    assert torch.equal(seen[0].data, seen[1].data)
    assert spoiled_miss.value > 10 * found.value


def test_a_perfect_prediction_is_off_by_the_noise_and_none_by_the_signal() -> None:
    pictures = head(96, 96)
    quiet, noisy = (simulate(pictures, coils=4, noise=level, seed=2) for level in (0.0, 0.02))
    mask = make_mask("random", (96, 96), 2, 0.2, 0)
    clean = prepare_slice(quiet.kspace[0], np.ones(96, bool), (96, 96))
    problem = prepare_slice(noisy.kspace[0], mask, (96, 96))
    known = clean.operator.adjoint(clean.data) * (clean.scale / problem.scale)
    known_noise = 4 * (0.02 * float(pictures.max()) / problem.scale) ** 2
    problem = replace(problem, noise=known_noise)
    aligned = (clean.operator.maps.conj() * problem.operator.maps).sum(0)
    value = miss(problem, lambda _: known * aligned.conj() / aligned.abs()).value
    assert value == pytest.approx(1, abs=0.15)
    nothing = miss(problem, lambda given: torch.zeros_like(given.data[0]))
    assert nothing.value == pytest.approx(nothing.zeros)
    assert nothing.value > 1.3 * value


@given(st.sampled_from([2.0**-20, 2.0**15, 3e-5, 700.0]))
@settings(max_examples=4)
def test_neither_number_knows_the_scale_of_the_scan(scale: float) -> None:
    one, other = problem_of(), problem_of(scale=scale)
    assert miss(one, cg_sense).value == pytest.approx(miss(other, cg_sense).value, rel=1e-3)
    fractions = [null_space(problem, truth_of(one)).fraction for problem in (one, other)]
    assert fractions[0] == pytest.approx(fractions[1], rel=1e-3)
    image = truth_of(one)
    assert null_space(one, image * 37).fraction == pytest.approx(null_space(one, image).fraction, rel=1e-3)


def test_badges() -> None:
    assert badge_of(1.1, None) == badge_of(1.1, 0.6) == badge_of(1.9, 0.6) == "consistent"
    assert badge_of(1.1, 0.4) == badge_of(1.9, 0.3) == badge_of(2.5, 0.9) == "elevated"
    assert badge_of(4.1, 0.9) == badge_of(1.5, -0.1) == "high"
    assert explained_share(1.0, 3.0) == 1
    assert explained_share(3.0, 3.0) == 0
    assert explained_share(1.0, 1.1) is None


def test_several_slices_are_told_by_median_and_range() -> None:
    found = miss(problem_of(), cg_sense)
    told = residual_of([replace(found, value=value) for value in (1.5, 1.1, 3.0)], (0, 2, 4), 7)
    assert told.value == 1.5
    assert told.values == (1.5, 1.1, 3.0)
    assert "1.10 to 3.00" in told.sentence
    assert told.lower_bound
    assert "upper bound" in told.sentence
    measured = residual_of([replace(found, noise_measured=True)], (0,), 7)
    assert not measured.lower_bound
    assert "upper bound" not in measured.sentence


def test_nothing_is_invented_where_all_was_measured() -> None:
    problem = problem_of(acceleration=1)
    assert null_space(problem, truth_of(problem)).fraction <= 1e-3


def test_more_is_invented_the_less_is_measured_and_zero_filling_invents_nothing() -> None:
    fractions = []
    for acceleration in (1, 1.5, 2, 3, 4):
        problem = problem_of(acceleration=acceleration)
        space = null_space(problem, truth_of(problem))
        fractions.append(space.fraction)
        assert 0 <= space.fraction <= 1
        assert torch.allclose(space.measured + space.invented, truth_of(problem), atol=1e-5)
        assert null_space(problem, problem.operator.adjoint(problem.data)).fraction < 1e-3
    assert fractions == sorted(fractions)
    assert fractions[-1] > 10 * fractions[0]


def test_what_the_data_cannot_see_is_invented_and_nothing_else() -> None:
    """One coil, no maps: the null space is the unmeasured columns, exactly."""
    problem = problem_of()
    alone = replace(
        problem,
        operator=replace(problem.operator, maps=torch.ones_like(problem.operator.maps[:1])),
        data=problem.data[:1],
    )
    image = truth_of(problem)
    columns = alone.operator.transform(image[None])
    unseen = torch.where(alone.operator.mask, 0, columns).abs().square().sum() / columns.abs().square().sum()
    assert null_space(alone, image).fraction == pytest.approx(float(unseen), rel=2e-2)


def test_an_empty_picture_has_nothing_invented() -> None:
    problem = problem_of()
    space = null_space(problem, torch.zeros_like(problem.data[0]))
    assert space.fraction == 0
    assert not space.share.any()


@pytest.fixture(scope="module")
def ends() -> tuple[SliceProblem, Tensor, Tensor]:
    problem = problem_of()
    with torch.inference_mode():
        return problem, tiny_model()([problem])[0], cg_sense(problem)


def test_the_ends_of_the_dial_are_the_two_answers_bit_for_bit(ends: tuple[SliceProblem, Tensor, Tensor]) -> None:
    problem, prior, classical = ends
    dial = Dial.between(prior, classical, problem)
    assert torch.equal(dial.at(0), classical)
    assert torch.equal(dial.at(1), prior)
    same = Dial.between(prior, prior, problem)
    assert torch.allclose(same.at(0.3), prior)
    for bad in (-0.1, 1.1, float("nan")):
        with pytest.raises(UsageError, match="strength"):
            dial.at(bad)


@given(seed=st.integers(0, 10_000), size=st.floats(0.01, 1))
@settings(max_examples=20)
def test_the_squared_distance_to_the_data_goes_in_a_straight_line(
    ends: tuple[SliceProblem, Tensor, Tensor], seed: int, size: float
) -> None:
    problem, prior, classical = ends
    noise = torch.randn(prior.shape, dtype=prior.dtype, generator=torch.Generator().manual_seed(seed))
    dial = Dial.between(prior + size * prior.abs().mean() * noise, classical, problem)
    strengths = np.linspace(0, 1, 9)
    images = [dial.at(float(s)) for s in strengths]
    squares = np.array([float(misfit(x, problem, problem.operator.mask)[0].norm()) ** 2 for x in images])
    line = (1 - strengths) * squares[0] + strengths * squares[-1]
    np.testing.assert_allclose(squares, line, rtol=1e-3)
    away = [float((x - images[0]).norm()) for x in images]
    assert np.diff(away).min() > 0


@pytest.fixture(scope="module")
def scan() -> Scan:
    return tiny_scan(slices=4)


def test_strength_turns_the_volume_and_is_recorded(scan: Scan) -> None:
    def make(**more: float) -> nm.Volume:
        return nm.reconstruct(scan, tiny_model(), slices=[1], **FASTER, **more)

    full, half, none = make(), make(strength=0.5), make(strength=0)
    sense = nm.reconstruct(scan, method="sense", slices=[1], **FASTER)
    assert np.array_equal(none.voxels, sense.voxels)
    assert np.array_equal(full.voxels, make(strength=1).voxels)
    assert 0 < np.linalg.norm(half.voxels - none.voxels) < np.linalg.norm(full.voxels - none.voxels)
    assert [volume.provenance["strength"] for volume in (full, half, none)] == [1, 0.5, 0]
    assert "strength 0.5" in derivation_words(half)
    assert "strength" not in derivation_words(full)
    with pytest.raises(UsageError, match="strength is for method nirvana"):
        nm.reconstruct(scan, method="sense", strength=0.5, **FASTER)
    with pytest.raises(UsageError, match="expected 0"):
        make(strength=2)


def test_the_dial_of_a_slice_shows_what_reconstruct_makes(scan: Scan) -> None:
    model = tiny_model()
    dial = nm.strength_dial(scan, 2, model, **FASTER)
    for strength in (0, 0.4, 1):
        made = nm.reconstruct(scan, model, slices=[2], strength=strength, **FASTER)
        assert np.array_equal(dial.at(strength), made.voxels[0])
    assert (dial.number, dial.model_sha256) == (2, made.provenance["model_sha256"])
    with pytest.raises(UsageError, match="complete"):
        nm.strength_dial(scan, 2, model)
    with pytest.raises(UsageError, match="slices are"):
        nm.strength_dial(scan, 9, model, **FASTER)


@pytest.mark.parametrize("method", ["nirvana", "sense", "wavelet"])
def test_trust_goes_with_the_volume(scan: Scan, tmp_path: Path, method: str) -> None:
    wanted = {"slices": [1] if method == "wavelet" else [0, 1, 2, 3], **FASTER}
    plain = nm.reconstruct(scan, tiny_model(), method, **wanted)
    volume = nm.reconstruct(scan, tiny_model(), method, trust=True, **wanted)
    assert np.array_equal(plain.voxels, volume.voxels)
    assert "trust" not in plain.provenance
    trust = volume.provenance["trust"]
    assert trust["slices"] == ([1] if method == "wavelet" else [0, 2, 3])
    assert trust["residual_over_noise"] == np.median(trust["residual"]["values"])
    assert trust["residual"]["badge"] in ("consistent", "elevated", "high")
    assert 0 < trust["null_space_fraction"] < 1
    assert volume.maps["invented"].shape == (len(trust["slices"]), 64, 56)
    assert f"{trust['residual_over_noise']:.2f} times the noise" in derivation_words(volume)
    nm.save(volume, tmp_path / "out.h5")
    again = load_volume(tmp_path / "out.h5")
    assert again.provenance["trust"] == trust
    assert np.array_equal(again.maps["invented"], volume.maps["invented"])


def test_where_there_is_no_residual_a_sentence_says_why(scan: Scan) -> None:
    zero = nm.reconstruct(scan, method="zero-filled", trust=True, **FASTER).provenance["trust"]
    assert zero["residual_over_noise"] is None
    assert "predicts zeros" in zero["residual"]["sentence"]
    assert zero["null_space_fraction"] < 1e-3
    full = nm.reconstruct(scan, tiny_model(), trust=True).provenance["trust"]
    assert full["residual_over_noise"] is None
    assert "fully sampled" in full["residual"]["sentence"]
    assert full["null_space_fraction"] < 1e-3
    only_centre = np.zeros(56, bool)
    only_centre[20:36] = True
    few = nm.reconstruct(scan, method="sense", mask=only_centre, trust=True).provenance["trust"]
    assert few["residual_over_noise"] is None
    assert "too few lines" in few["residual"]["sentence"]


def test_bars_go_with_the_volume_and_are_refused_for_another_method(scan: Scan, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    subjects = [Subject(draw.exponential(size=50), float(r)) for r in draw.uniform(1, 2, 20)]
    made = {"method": "sense", "model_sha256": None, "combine": "rss", "strength": None}
    bars = calibrate(subjects, 0.9, made)
    volume = nm.reconstruct(scan, method="sense", error_bars=bars.save(tmp_path / "bars.json"), **FASTER)
    trust = volume.provenance["trust"]
    residual = trust["residual_over_noise"]
    np.testing.assert_allclose(
        volume.maps["error_bar"], bars.quantile * residual * volume.maps["error_scale"], rtol=1e-6
    )
    assert trust["error_bars"]["widened"] == pytest.approx(residual / bars.residual_median)
    with pytest.raises(UsageError, match="calibrated with method sense"):
        nm.reconstruct(scan, method="wavelet", error_bars=bars, **FASTER)
    none = nm.reconstruct(scan, method="sense", error_bars=bars)
    assert none.provenance["trust"]["error_bars"] is None
    assert any("no error bars" in note for note in none.warnings)


def test_the_bars_that_come_with_the_shipped_model_are_its_own_and_the_nearest(scan: Scan) -> None:
    nano = nm.load_model("nano")
    made = {"method": "nirvana", "model_sha256": nano.sha256, "combine": "rss", "strength": 1.0}
    for acceleration, chosen in ((3.0, 4.0), (4.4, 4.0), (6.5, 8.0), (12.0, 8.0)):
        bars = shipped_bars({**made, "acceleration": acceleration})
        assert bars.protocol["acceleration"] == pytest.approx(chosen, rel=0.1)
        assert 0.88 <= bars.protocol["held_out_coverage"]["mean"] <= 0.92
        assert bars.protocol["held_out_coverage"]["subjects"] >= 70
        assert 0 < bars.protocol["files"]["seen_in_training"] < bars.protocol["files"]["different"]
    for key, value in (("model_sha256", "0" * 64), ("method", "sense"), ("combine", "sense"), ("strength", 0.5)):
        with pytest.raises(UsageError, match="no error bars come with"):
            shipped_bars({**made, key: value})
    volume = nm.reconstruct(scan, error_bars="shipped", accelerate=4, center_fraction=0.15)
    told = volume.provenance["trust"]["error_bars"]
    assert told["quantile"] == shipped_bars({**made, "acceleration": 4.0}).quantile
    np.testing.assert_allclose(
        volume.maps["error_bar"],
        told["quantile"] * volume.provenance["trust"]["residual_over_noise"] * volume.maps["error_scale"],
        rtol=1e-6,
    )
    with pytest.raises(UsageError, match="no error bars come with method sense"):
        nm.reconstruct(scan, method="sense", error_bars="shipped", **FASTER)
