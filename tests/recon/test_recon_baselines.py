import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from bart import Bart
from hypothesis import given
from hypothesis import strategies as st
from support import brain8, centred_ifft2
from tiny import tiny_scan

from nirvana_mri.errors import UsageError
from nirvana_mri.eval.metrics import psnr, ssim
from nirvana_mri.physics.masks import make_mask
from nirvana_mri.physics.sense import SenseOperator
from nirvana_mri.physics.simulate import loop_fields
from nirvana_mri.recon.baselines import SenseSettings, WaveletSettings, cg_sense, l1_wavelet
from nirvana_mri.recon.open import open_scan
from nirvana_mri.recon.problem import SliceProblem, prepare_slice, zero_filled
from nirvana_mri.recon.wavelet import shrink

needs_bart = pytest.mark.skipif(not shutil.which("bart"), reason="bart is not installed; run: make peers")


def picture(ny: int, nx: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(ny, nx, dtype=torch.complex64, generator=generator)


def known_problem(columns: int = 2, noise: float = 0.0) -> tuple[SliceProblem, torch.Tensor]:
    """A smooth image seen through known maps, every ``columns``-th column measured."""
    image = torch.fft.fft2(torch.nn.functional.pad(picture(6, 6), (0, 42, 0, 34))) / 36
    mask = torch.arange(48) % columns == 0
    operator = SenseOperator(loop_fields(8, (40, 48), seed=1), mask)
    problem = SliceProblem(
        operator.forward(image), operator, torch.ones(40, 48), (8, 8), noise, coils=8, scale=1.0, crop=(40, 48)
    )
    return problem, image


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        (cg_sense, SenseSettings(model=1e-6, noise=0, steps=60)),
        (l1_wavelet, WaveletSettings(model=1e-6, noise=0, steps=300)),
    ],
)
def test_recovers_what_noiseless_data_determine(method, settings) -> None:
    problem, image = known_problem()
    folded = problem.operator.adjoint(problem.data) - image
    assert folded.norm() > 0.3 * image.norm()  # there is something to undo
    assert (method(problem, settings) - image).norm() < 2e-3 * image.norm()


@pytest.mark.parametrize("method", [cg_sense, l1_wavelet])
def test_more_noise_means_more_prior(method) -> None:
    """A louder scan is trusted less: the picture that explains it is smaller."""
    quiet, loud = (method(known_problem(noise=noise)[0]).norm() for noise in (1e-3, 1.0))
    assert loud < 0.9 * quiet


@pytest.mark.parametrize("coils", [1, 8])
def test_each_method_is_better_than_the_simpler_one(coils: int) -> None:
    scan = tiny_scan(96, 88, coils=coils)
    kspace = scan.kspace[0]
    mask = make_mask("poisson" if coils == 1 else "equispaced_fraction", (96, 88), 3, 0.16, 0)
    problem = prepare_slice(kspace, mask, (96, 88))
    pictures = [zero_filled(kspace, mask, (96, 88)), *(problem.finish(f(problem)) for f in (cg_sense, l1_wavelet))]
    assert scan.reference is not None
    decibels = [psnr(scan.reference[0][None], made.numpy()[None]) for made in pictures]
    gains = np.diff(decibels)
    assert gains[0] > (2 if coils > 1 else -1)  # one coil gives CG-SENSE nothing to unfold with
    assert gains[1] > 2


@pytest.mark.parametrize("method", [cg_sense, l1_wavelet])
@pytest.mark.parametrize("alpha", [1e-8, 1.7, 7e7])
def test_a_louder_receiver_gives_the_same_picture(method, alpha: float) -> None:
    """To 1e-5 of the picture's maximum, for any number; tests/laws has powers of two, to the bit."""
    kspace, mask = tiny_scan(64, 56, coils=8).kspace[0], make_mask("equispaced_fraction", (64, 56), 4, 0.16, 0)
    reference, scaled = (
        problem.finish(method(problem)).double()
        for problem in (prepare_slice(factor * kspace, mask, (64, 56)) for factor in (1, np.float32(alpha)))
    )
    assert (scaled / float(np.float32(alpha)) - reference).abs().max() < 1e-5 * reference.max()


def test_maps_fade_where_they_explain_nothing() -> None:
    problem, _ = known_problem(columns=4)
    problem.certainty[:, :12] = 0.5
    faded, whole = (cg_sense(problem, SenseSettings(fading=power)) for power in (8, 0))
    assert faded[:, :12].norm() < 0.1 * whole[:, :12].norm()
    assert faded[:, 12:].norm() > 0.5 * whole[:, 12:].norm()


@pytest.mark.parametrize("settings", [SenseSettings, WaveletSettings])
@pytest.mark.parametrize("wrong", [{"model": -1.0}, {"noise": float("nan")}, {"fading": -1}, {"steps": 0}])
def test_settings_that_cannot_work_are_refused(settings, wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="expected"):
        settings(**wrong)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 3))
def test_shrinking_by_nothing_changes_nothing(ny: int, nx: int, levels: int) -> None:
    image = picture(ny, nx)
    torch.testing.assert_close(shrink(image, [0.0] * levels), image, rtol=1e-5, atol=1e-5)


@given(st.floats(0, 2), st.integers(0, 5))
def test_shrinking_never_drives_pictures_apart(threshold: float, seed: int) -> None:
    """What makes FISTA converge: a proximal step does not expand distances."""
    a, b = picture(24, 19, seed), picture(24, 19, seed + 9)
    apart = (shrink(a, [threshold, threshold / 2]) - shrink(b, [threshold, threshold / 2])).norm()
    assert apart <= (a - b).norm() * (1 + 1e-6)


def test_shrinking_favours_no_place_and_no_phase() -> None:
    image, thresholds = picture(32, 24), [0.3, 0.2, 0.1]
    shrunk = shrink(image, thresholds)
    torch.testing.assert_close(shrink(image.roll((3, 5), (0, 1)), thresholds), shrunk.roll((3, 5), (0, 1)))
    turn = torch.polar(torch.ones(()), torch.tensor(0.7))
    torch.testing.assert_close(shrink(image * turn, thresholds), shrunk * turn)


def test_a_large_threshold_leaves_the_mean() -> None:
    image = picture(8, 8) + 2
    torch.testing.assert_close(shrink(image, [1e3] * 3), image.mean().expand(8, 8))


@needs_bart
@pytest.mark.parametrize(
    ("method", "commands"),
    [
        (cg_sense, [f"-l2 -r {weight} -i 50" for weight in (0.005, 0.01)]),
        (l1_wavelet, [f"-R W:7:0:{weight} -i 100" for weight in (0.002, 0.003, 0.005)]),
    ],
)
def test_keeps_up_with_bart_on_a_real_brain(method, commands: list[str], shared_data: Path, tmp_path: Path) -> None:
    """BART's best of some weights; benchmarks/baselines.py has more masks and weights."""
    kspace = brain8(shared_data)
    shape = kspace.shape[1:]
    mask = make_mask("equispaced_fraction", shape, 4, 0.08, 0)
    target = np.sqrt((np.abs(centred_ifft2(kspace)) ** 2).sum(axis=0))[None].astype(np.float32)
    problem = prepare_slice(kspace, mask, shape)
    bart = Bart(tmp_path, np.where(mask, kspace, 0))
    theirs = [problem.finish(torch.from_numpy(bart.pics(command)) / problem.scale) for command in commands]
    made = problem.finish(method(problem)).numpy()[None]
    assert psnr(target, made) > max(psnr(target, other.numpy()[None]) for other in theirs) - 0.5
    assert ssim(target, made) > max(ssim(target, other.numpy()[None]) for other in theirs) - 0.005


@needs_bart
def test_keeps_up_with_bart_on_its_own_phantom(tmp_path: Path) -> None:
    """Eight coils, read from BART's own file; within half a decibel of its best weight."""
    subprocess.run(["bart", "phantom", "-k", "-s", "8", "-x", "128", "full"], cwd=tmp_path, check=True)
    kspace = open_scan(tmp_path / "full").kspace[0]
    draw = np.random.default_rng(0).standard_normal((*kspace.shape, 2)) @ [1, 1j]
    kspace = (kspace + 0.01 * np.abs(kspace).std() * draw).astype(np.complex64)
    mask = make_mask("equispaced_fraction", kspace.shape[1:], 4, 0.08, 0)
    target = np.sqrt((np.abs(centred_ifft2(kspace)) ** 2).sum(axis=0))[None].astype(np.float32)
    problem = prepare_slice(kspace, mask, kspace.shape[1:])
    bart = Bart(tmp_path, np.where(mask, kspace, 0))
    weights = (0.001, 0.005, 0.01)
    theirs = [problem.finish(torch.from_numpy(bart.pics(f"-l2 -r {w} -i 50") / problem.scale)) for w in weights]
    made = problem.finish(cg_sense(problem)).numpy()[None]
    assert psnr(target, made) > max(psnr(target, other.numpy()[None]) for other in theirs) - 0.5
