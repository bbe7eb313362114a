"""Prewhitening inside a reconstruction: what mixes the coils changes no picture, what scales them scales it."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from tiny import head, tiny_model

import nirvana_mri as nm
from nirvana_mri.errors import ScanError
from nirvana_mri.physics.masks import make_mask
from nirvana_mri.recon.problem import prepare_slice, whitening_of
from nirvana_mri.recon.simulate import simulate
from nirvana_mri.scan import Scan

COILS = 6
CLEAN = simulate(head(64, 56, 2), coils=COILS, noise=0.0, seed=1, name="head")
MASK = make_mask("equispaced_fraction", (64, 56), 3, 0.2, 0)
METHODS = ("sense", "wavelet", "nirvana")


@dataclass(frozen=True, eq=False)
class Noisy:
    """Slices with noise of a covariance, all coils mixed by a matrix."""

    scan: Scan
    factor: np.ndarray
    mix: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.scan.kspace.shape

    def __len__(self) -> int:
        return len(self.scan.kspace)

    def __getitem__(self, index: int) -> np.ndarray:
        clean = self.scan.kspace[index]
        noise = self.factor @ white(clean[0].size, index)
        return (self.mix @ (clean.reshape(COILS, -1) + noise)).reshape(clean.shape).astype(np.complex64)


def white(samples: int, seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return (draw.standard_normal((COILS, samples)) + 1j * draw.standard_normal((COILS, samples))) / np.sqrt(2)


def mixing(seed: int, strength: float = 0.5) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return np.eye(COILS) + strength * (
        draw.standard_normal((COILS, COILS)) + 1j * draw.standard_normal((COILS, COILS))
    ) / np.sqrt(COILS)


def measured(mix: np.ndarray | None = None, sigma: float = 0.03, scale: float = 1.0) -> Scan:
    """Coils with correlated noise, one of them ten times as noisy, and their noise measurement."""
    mix = np.eye(COILS) if mix is None else mix
    factor = sigma * np.diag([1, 1, 10, 1, 1, 2]) @ mixing(3)
    noise = (scale * mix @ factor @ white(4096, 99)).astype(np.complex64)
    return replace(CLEAN, kspace=Noisy(CLEAN, factor, scale * mix), noise=noise)


def voxels(scan: Scan, method: str, **options: object) -> np.ndarray:
    return nm.reconstruct(scan, tiny_model(), method, mask=MASK, slices=[0], **options).voxels


@pytest.mark.parametrize("method", METHODS)
def test_mixing_the_coils_changes_the_picture_by_a_factor_only(method: str) -> None:
    one, other = (voxels(scan, method, combine="sense") for scan in (measured(), measured(mixing(7))))
    factor = float((one * other).sum() / (other * other).sum())
    assert np.abs(one - factor * other).max() < 2e-3 * one.max()
    plain = [voxels(scan, method, combine="sense", prewhiten=False) for scan in (measured(), measured(mixing(7)))]
    factor = float((plain[0] * plain[1]).sum() / (plain[1] * plain[1]).sum())
    assert np.abs(plain[0] - factor * plain[1]).max() > 2e-2 * plain[0].max(), "whitening is what does it"


@pytest.mark.parametrize("combine", ["rss", "sense"])
@pytest.mark.parametrize("method", METHODS)
def test_scaling_the_scan_scales_every_bit(method: str, combine: str) -> None:
    one, other = measured(), measured(scale=2.0**-9)
    expected = voxels(one, method, combine=combine) * np.float32(2.0**-9)
    np.testing.assert_array_equal(voxels(other, method, combine=combine), expected)


def test_a_noise_measurement_of_another_bandwidth_does_no_harm() -> None:
    """Louder than what the scan itself can hold, its level is not believed; only its shape is."""
    scan = measured()
    assert scan.noise is not None
    louder, loudest = (replace(scan, noise=scan.noise * np.complex64(2.0**power)) for power in (10, 20))
    np.testing.assert_array_equal(voxels(louder, "sense"), voxels(loudest, "sense"))
    assert np.abs(voxels(louder, "sense") - voxels(scan, "sense")).max() < 0.2 * voxels(scan, "sense").max()


def test_a_fully_sampled_picture_keeps_the_brightness_and_the_floor_of_the_plain_one() -> None:
    scan = measured(sigma=0.003)
    plain = nm.reconstruct(scan, method="zero-filled", slices=[0]).voxels[0]
    everything = np.ones(56, bool)
    problem = prepare_slice(scan.kspace[0], everything, scan.crop, white=whitening_of(scan))
    through = problem.finish(problem.operator.adjoint(problem.data)).numpy()
    air = head(64, 56, 1)[0] == 0
    assert float(through[air].mean()) == pytest.approx(float(plain[air].mean()), rel=0.1)
    assert np.median(np.abs(through[~air] / plain[~air] - 1)) < 0.03
    unlike = problem.finish(problem.operator.adjoint(problem.data), "sense").numpy()
    assert np.median(np.abs(unlike[~air] / plain[~air] - 1)) > 0.05, "there is something to undo"


def test_white_noise_changes_nothing_to_speak_of() -> None:
    draw = white(20000, 5).astype(np.complex64)
    scan = replace(CLEAN, noise=draw)
    np.testing.assert_allclose(voxels(scan, "sense"), voxels(CLEAN, "sense"), atol=0.02 * voxels(CLEAN, "sense").max())


def test_the_whitened_noise_is_white_and_its_energy_stays() -> None:
    scan = measured()
    found = whitening_of(scan)
    assert found is not None
    assert scan.noise is not None
    noise = found.matrix.numpy() @ scan.noise
    covariance = noise @ noise.conj().T / noise.shape[1]
    energy = float(np.square(np.abs(scan.noise)).mean())
    np.testing.assert_allclose(covariance, energy * np.eye(COILS), atol=1e-4 * energy)
    torch.testing.assert_close(found.inverse @ found.matrix, torch.eye(COILS) + 0j, atol=1e-5, rtol=0)


def test_less_noise_with_than_without() -> None:
    noisy = measured(sigma=0.01)
    silent = replace(noisy, kspace=CLEAN.kspace)
    shares = []
    for prewhiten in (True, False):
        options = {"method": "zero-filled", "combine": "sense", "prewhiten": prewhiten}
        clean = nm.reconstruct(silent, **options).voxels
        found = nm.reconstruct(noisy, **options).voxels
        shares.append(float(np.linalg.norm(found - clean) / np.linalg.norm(clean)))
    assert shares[0] < 0.7 * shares[1]


def test_provenance_says_whether() -> None:
    scan = measured()
    assert nm.reconstruct(scan, method="sense", mask=MASK).provenance["prewhitened"] is True
    assert nm.reconstruct(scan, method="sense", mask=MASK, prewhiten=False).provenance["prewhitened"] is False
    assert nm.reconstruct(CLEAN, method="sense", mask=MASK).provenance["prewhitened"] is False


@pytest.mark.parametrize("mask", [None, MASK])
def test_the_plain_root_sum_of_squares_stays_as_measured(mask: np.ndarray | None) -> None:
    """So that it equals other toolkits' pictures to the last bit."""
    scan = measured()
    options = {} if mask is None else {"mask": mask}
    volume = nm.reconstruct(scan, method="zero-filled", **options)
    np.testing.assert_array_equal(
        volume.voxels, nm.reconstruct(replace(scan, noise=None), method="zero-filled", **options).voxels
    )
    assert volume.provenance["prewhitened"] is False


def dead(noise: np.ndarray) -> np.ndarray:
    return noise * (np.arange(COILS) != 2)[:, None]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (dead, "coil 2 has no noise"),
        (lambda noise: noise[:, :3], "3 noise samples for 6 coils"),
        (lambda noise: noise[:4], "expected .coil, sample. of 6 coils"),
        (lambda noise: noise * np.nan, "NaN"),
    ],
    ids=["dead", "short", "coils", "nan"],
)
def test_noise_that_says_nothing_is_refused_before_the_first_slice(damage: object, said: str) -> None:
    scan = measured()
    assert scan.noise is not None
    broken = replace(scan, noise=damage(scan.noise).astype(np.complex64))  # type: ignore[operator]
    with pytest.raises(ScanError, match=said):
        nm.reconstruct(broken, method="sense", mask=MASK)
    assert nm.reconstruct(broken, method="sense", mask=MASK, prewhiten=False).voxels.size


def test_the_plain_root_sum_of_squares_does_not_ask_for_it() -> None:
    broken = replace(CLEAN, noise=np.full((COILS, 64), np.nan, np.complex64))
    plain = nm.reconstruct(broken, method="zero-filled", accelerate=2)
    np.testing.assert_array_equal(plain.voxels, nm.reconstruct(CLEAN, method="zero-filled", accelerate=2).voxels)


def test_a_single_coil_needs_none() -> None:
    scan = simulate(head(64, 56, 1), coils=1, noise=0.01, seed=1)
    scan = replace(scan, noise=np.ones((1, 9), np.complex64))
    assert nm.reconstruct(scan, method="sense", mask=MASK).provenance["prewhitened"] is False
