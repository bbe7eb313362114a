"""What each stress does to the data: as much as asked, the same with the same seed, to measured samples alone."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_model, tiny_scan

from nirvana_mri.errors import ScanError, UsageError
from nirvana_mri.eval.stress.adversarial import attacked, noise_norm, worst_change
from nirvana_mri.eval.stress.bench import Bench, difference
from nirvana_mri.eval.stress.bias import smooth_field
from nirvana_mri.eval.stress.case import Asked, Sampled, picture_of, take_slice
from nirvana_mri.eval.stress.coils import dropped, loudest_first
from nirvana_mri.eval.stress.criterion import loses_little
from nirvana_mri.eval.stress.lesions import disc, even_place, inserted, with_lesion
from nirvana_mri.eval.stress.methods import NIRVANA, SENSE, methods_of, problem_of, solvers_of
from nirvana_mri.eval.stress.more_samples import more_samples
from nirvana_mri.eval.stress.motion import rotation, translated
from nirvana_mri.eval.stress.noise import added_noise, white_noise
from nirvana_mri.eval.stress.shift import shifted, turned
from nirvana_mri.eval.stress.table import STRESSES, chosen
from nirvana_mri.eval.stress.wrong_mask import EMPTY, INVERTED, UNCLAIMED, wrong_mask
from nirvana_mri.physics.fourier import fft2c, ifft2c
from nirvana_mri.recon.simulate import simulate

MADE = {name: stress for name, stress in STRESSES.items() if stress.make is not None}


def draw(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def sampled() -> Sampled:
    return take_slice(tiny_scan(48, 44), 0, Asked(center_fraction=0.16))


@pytest.fixture(scope="module")
def bench(sampled: Sampled) -> Bench:
    solvers = solvers_of(tiny_model())
    return Bench(sampled, methods_of(solvers), solvers)


@pytest.mark.parametrize("name", MADE)
def test_the_same_seed_gives_the_same_case(name: str, sampled: Sampled) -> None:
    stress = MADE[name]
    for level in stress.levels:
        if stress.hindrance(level, sampled):
            continue
        one, same = (stress.make(sampled, level, draw(7)) for _ in range(2))
        assert torch.equal(one.kspace, same.kspace)
        assert np.array_equal(one.mask, same.mask)
        assert torch.equal(one.target, same.target)
        assert one.target.shape == sampled.target.shape


@pytest.mark.parametrize("name", MADE)
def test_no_method_sees_what_a_case_did_not_measure(name: str, bench: Bench) -> None:
    stress = MADE[name]
    case = stress.make(bench.sampled, stress.quick[-1] if name != "wrong-mask" else EMPTY, draw())
    poison = torch.full((), complex(math.nan, math.nan))
    poisoned = replace(case, kspace=torch.where(torch.from_numpy(case.mask), case.kspace, poison))
    assert bench.measure(case).values == bench.measure(poisoned).values


def test_the_slice_itself_stays_as_it_was(sampled: Sampled) -> None:
    before = sampled.kspace.clone(), sampled.mask.copy()
    for stress in MADE.values():
        stress.make(sampled, stress.quick[0], draw())
    assert torch.equal(sampled.kspace, before[0])
    assert np.array_equal(sampled.mask, before[1])


@given(level=st.floats(0.25, 8), seed=st.integers(0, 99))
def test_noise_is_as_loud_as_asked(sampled: Sampled, level: float, seed: int) -> None:
    case = added_noise(sampled, level, draw(seed))
    added = (case.kspace - sampled.measured)[:, :, sampled.mask]
    count = added.numel()
    assert float(added.norm()) == pytest.approx(level * sampled.noise * math.sqrt(count), rel=5 / math.sqrt(count))
    assert not (case.kspace - sampled.measured)[:, :, ~sampled.mask].any()
    assert torch.equal(case.target, sampled.target)


def test_the_scans_own_noise_is_found() -> None:
    """Of a smooth object, whose k-space leaves the corners to the noise."""
    y, x = np.meshgrid(np.linspace(-3, 3, 48), np.linspace(-3, 3, 44), indexing="ij")
    scan = simulate(np.exp(-(x**2) - y**2).astype(np.float32), coils=4, noise=0.02, seed=3)
    assert take_slice(scan, 0, Asked(center_fraction=0.16)).noise == pytest.approx(0.02, rel=0.1)


@given(dy=st.floats(-3, 3), dx=st.floats(-3, 3))
def test_a_shift_there_and_back_is_nothing(sampled: Sampled, dy: float, dx: float) -> None:
    there = turned(sampled.kspace, dy, dx)
    assert difference(turned(there, -dy, -dx), sampled.kspace) < 1e-5
    assert float(there.norm()) == pytest.approx(float(sampled.kspace.norm()), rel=1e-5)


def test_a_shift_by_one_pixel_moves_the_picture_by_one_pixel(sampled: Sampled) -> None:
    case = shifted(sampled, 1.0, draw())
    rolled = sampled.target.roll((1, 1), (0, 1))
    assert difference(picture_of(case.kspace, sampled.crop), rolled) < 1e-5
    assert difference(case.back(ifft2c(case.kspace)), ifft2c(sampled.kspace)) < 1e-5


def test_zero_filled_moves_along_with_a_shift(bench: Bench) -> None:
    """It is linear and treats every place alike: the error must be rounding."""
    found = STRESSES["shift"].measure(bench, 0.5, draw())
    assert found.values["zero-filled"]["equivariance_error"] < 1e-5


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_a_coil_drop_zeroes_exactly_one_coil(sampled: Sampled, rank: int) -> None:
    case = dropped(sampled, rank, draw())
    silent = [coil for coil in range(4) if not case.kspace[coil].any()]
    assert silent == [loudest_first(sampled)[rank - 1]] == [dict(case.details)["coil"]]
    others = [coil for coil in range(4) if coil not in silent]
    assert torch.equal(case.kspace[others], sampled.kspace[others])
    assert float(case.target.norm()) < float(sampled.target.norm())


def test_a_single_coil_cannot_be_dropped() -> None:
    alone = take_slice(tiny_scan(48, 44, coils=1), 0, Asked(center_fraction=0.16))
    assert "1 coils" in STRESSES["coil-drop"].hindrance(1, alone)


def test_a_wrong_mask_is_wrong_as_asked(sampled: Sampled) -> None:
    claimed, silent, inverted = (wrong_mask(sampled, level, draw()) for level in (EMPTY, UNCLAIMED, INVERTED))
    extra = claimed.mask & ~sampled.mask
    assert extra.sum() == max(1, round(0.1 * sampled.mask.sum()))
    assert not claimed.kspace[:, :, extra].any()
    assert not (sampled.mask & ~claimed.mask).any()
    assert (sampled.mask & ~silent.mask).sum() == extra.sum()
    assert not (silent.mask & ~sampled.mask).any()
    assert not (inverted.mask & sampled.mask).any()


def test_an_inverted_mask_is_refused(bench: Bench) -> None:
    found = STRESSES["wrong-mask"].measure(bench, INVERTED, draw())
    assert "\n" not in found.values[NIRVANA]["refused"]
    assert STRESSES["wrong-mask"].criterion.judge(found.values, found.change) == (True, None)
    assert loses_little().judge(found.values, found.change) == (False, None)


def test_more_samples_keep_those_that_were(sampled: Sampled) -> None:
    case = more_samples(sampled, 1.5, draw())
    assert not (sampled.mask & ~case.mask).any()
    assert case.mask.sum() == sampled.mask.sum() + round(0.5 * sampled.mask.sum())


def test_motion_leaves_the_centre_in_place(sampled: Sampled) -> None:
    case = translated(sampled, 2.0, draw())
    centre = sampled.kspace.shape[-1] // 2
    assert torch.equal(case.kspace[..., centre - 2 : centre + 3], sampled.kspace[..., centre - 2 : centre + 3])
    assert not torch.equal(case.kspace[..., 0], sampled.kspace[..., 0])
    # Only phases turn.
    assert torch.allclose(case.kspace.abs(), sampled.kspace.abs(), rtol=1e-4, atol=1e-3)


def test_a_rotation_by_nothing_is_nothing_and_by_a_quarter_a_quarter() -> None:
    picture = torch.zeros(1, 33, 33, dtype=torch.complex64)
    picture[0, 10, 16] = 1j  # 6 above the middle
    assert torch.allclose(rotation(picture, 0.0), picture, atol=1e-6)
    moved = rotation(picture, 90.0).abs()[0]
    assert divmod(int(moved.argmax()), 33) in [(16, 10), (16, 22)]
    assert float(moved.max()) == pytest.approx(1, abs=1e-4)


@given(ratio=st.floats(1.1, 5), seed=st.integers(0, 99))
def test_a_bias_field_varies_as_asked(ratio: float, seed: int) -> None:
    field = smooth_field((24, 20), ratio, draw(seed))
    assert float(field.max() / field.min()) == pytest.approx(ratio, rel=1e-4)
    assert float(field.log().mean()) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("method", [NIRVANA, SENSE])
@pytest.mark.parametrize("level", [0.2, 1.0])
def test_the_worst_change_stays_in_its_ball_and_is_worse_than_noise(bench: Bench, method: str, level: float) -> None:
    sampled = bench.sampled
    radius = level * noise_norm(sampled)
    noise = white_noise(sampled, draw())
    noise = noise * (radius / noise.norm())
    change = worst_change(sampled, bench.solvers[method], radius, noise, steps=4)
    assert float(change.norm()) <= radius * (1 + 1e-5)
    assert not change[:, :, ~sampled.mask].any()
    base = bench.baseline[method].images

    def moved(by: torch.Tensor) -> float:
        return float((bench.methods[method](sampled.measured + by, sampled.mask).images - base).norm())

    assert moved(change) > 1.2 * moved(noise)


def test_the_gradient_reaches_the_data_through_the_first_image(bench: Bench) -> None:
    """By finite differences, along the gradient: a first image cut off from it would give another slope."""
    problem, solver = problem_of(bench.sampled.kspace, bench.sampled.mask), bench.solvers[NIRVANA]
    target = torch.randn(48, 44, generator=torch.Generator().manual_seed(0), dtype=torch.complex64)

    def height(data: torch.Tensor) -> torch.Tensor:
        return (solver(replace(problem, data=data)) * target.conj()).real.sum()

    data = problem.data.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(height(data), data)
    gradient = problem.operator.sample(gradient)
    step = 1e-3 * problem.data.norm() * gradient / gradient.norm()
    with torch.no_grad():
        slope = float(height(problem.data + step) - height(problem.data - step)) / (2 * float(step.norm()))
    assert slope == pytest.approx(float(gradient.norm()), rel=0.1)


def test_an_attack_tells_noise_from_the_worst(bench: Bench) -> None:
    found = attacked(bench, 1.0, draw())
    for name in (NIRVANA, SENSE):
        assert found.values[name]["amplification"] > found.values[name]["noise_amplification"]
    assert found.values[SENSE]["amplification"] > found.values[SENSE]["transferred_amplification"]
    assert found.values["zero-filled"]["amplification"] <= 1.001


@given(contrast=st.floats(0.05, 1), diameter=st.sampled_from([3.0, 5.0, 8.0]))
def test_a_lesion_has_the_contrast_asked_for(sampled: Sampled, contrast: float, diameter: float) -> None:
    place = even_place(sampled.target.numpy())
    picture = picture_of(with_lesion(sampled.kspace, place, diameter, contrast), sampled.crop)
    ratio = picture / sampled.target
    assert float(ratio[place]) == pytest.approx(1 + contrast, rel=0.01)
    far = disc(sampled.crop, place, diameter) < 1e-6
    assert torch.allclose(ratio[far], torch.ones(()), atol=1e-3)


def test_a_method_that_sees_everything_keeps_the_whole_lesion(sampled: Sampled) -> None:
    whole = replace(sampled, mask=np.ones_like(sampled.mask))
    solvers = solvers_of(tiny_model())
    bench = Bench(whole, methods_of(solvers), solvers)
    found = inserted(bench, (8.0, 0.5), draw())
    assert found.values["zero-filled"]["contrast_kept"] == pytest.approx(1, abs=1e-4)


def test_a_faint_lesion_is_harder_to_see(bench: Bench) -> None:
    clear, faint = (inserted(bench, (5.0, contrast), draw()) for contrast in (0.5, 0.05))
    assert faint.values[SENSE]["detectability"] < clear.values[SENSE]["detectability"] / 5


def test_an_undersampled_scan_is_refused() -> None:
    scan = tiny_scan(48, 44)
    thinned = replace(scan, acquired=np.arange(44) % 2 == 0)
    with pytest.raises(ScanError, match="undersampled"):
        take_slice(thinned, 0, Asked())


def test_readout_oversampling_goes_and_the_target_stays() -> None:
    scan = tiny_scan(64, 44)
    narrow = replace(scan, crop=(48, 44))
    whole, cut = (take_slice(each, 0, Asked(center_fraction=0.16)) for each in (scan, narrow))
    assert cut.kspace.shape == (4, 48, 44)
    assert torch.allclose(cut.target, whole.target[8:56], rtol=1e-4)
    assert torch.allclose(fft2c(ifft2c(cut.kspace)), cut.kspace, atol=1e-4)


def test_stresses_are_chosen_by_name() -> None:
    assert list(chosen("shift, noise")) == ["noise", "shift"]
    assert chosen(None) is STRESSES
    for bad in ("noise,nois", "", ","):
        with pytest.raises(UsageError, match="noise, shift, coil-drop"):
            chosen(bad)
