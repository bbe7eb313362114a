"""Lint statistics: each tells what it is for, leaves clean data alone, and does not depend on scale or order."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support import brain8, centred_ifft2
from tiny import head

from nirvana_mri.physics.lint.borders import border_step, empty_border, encoded_lines, is_empty, line_energy
from nirvana_mri.physics.lint.hermitian import hermitian_coherence
from nirvana_mri.physics.lint.levels import block_score, grey_levels
from nirvana_mri.physics.lint.samples import centre_pixel, coil_likeness, most_at_limit
from nirvana_mri.physics.lint.spikes import coil_energy, strongest_line, strongest_spike
from nirvana_mri.physics.lint.wrap import wrapped_share
from nirvana_mri.physics.masks import MASKS, make_mask
from nirvana_mri.recon.simulate import simulate

Kspace = np.ndarray


def centred_fft2(images: np.ndarray) -> Kspace:
    shifted = np.fft.ifftshift(images, axes=(-2, -1))
    return np.fft.fftshift(np.fft.fft2(shifted, norm="ortho"), axes=(-2, -1)).astype(np.complex64)


@pytest.fixture(scope="module")
def clean() -> Kspace:
    """[4 96 80], noise of 1 %."""
    return simulate(head(96, 80), coils=4, noise=0.01, seed=3).kspace[0]


def statistics(kspace: Kspace) -> np.ndarray:
    """Every number that is taken of k-space."""
    energy = coil_energy(kspace)
    likeness = coil_likeness(kspace)
    picture = np.sqrt((np.abs(centred_ifft2(kspace / np.abs(kspace).max())) ** 2).sum(axis=0)).astype(np.float64)
    steps = [value for axis in (0, 1) for value in border_step(line_energy(kspace, axis))]
    lines = [value for axis in (0, 1) for value in strongest_line(energy, axis)]
    return np.array([
        hermitian_coherence(kspace) or 0,
        np.sort(likeness.ravel())[-len(kspace) - 1],
        most_at_limit(kspace),
        centre_pixel(kspace),
        strongest_spike(energy)[0],
        wrapped_share(picture),
        block_score(picture),
        *steps,
        *lines,
    ])  # fmt: skip


@given(st.floats(-8, 8), st.permutations(range(4)))
def test_scale_and_order_of_the_coils_change_nothing(exponent: float, order: list[int]) -> None:
    kspace = simulate(head(48, 40), coils=4, noise=0.02, seed=1).kspace[0]
    other = (kspace[order] * np.float32(10**exponent)).astype(np.complex64)
    np.testing.assert_allclose(statistics(other), statistics(kspace), rtol=1e-3, atol=1e-3)


@given(st.integers(16, 70), st.integers(16, 70), st.integers(0, 99), st.floats(-3, 3))
def test_magnitudes_are_hermitian_at_any_size_place_and_phase(ny: int, nx: int, seed: int, phase: float) -> None:
    picture = np.roll(head(ny, nx, seed=seed)[0], (seed % 7, seed % 5), (0, 1))
    kspace = centred_fft2(picture * np.exp(1j * phase))[None]
    assert hermitian_coherence(kspace) > 0.999


def test_magnitudes_of_coils_and_undersampled_ones_are_hermitian(clean: Kspace) -> None:
    kspace = centred_fft2(np.abs(centred_ifft2(clean)))
    assert hermitian_coherence(kspace) > 0.999
    mask = make_mask("random", (96, 80), 3, 0.2, seed=2)
    assert hermitian_coherence(np.where(mask, kspace, 0)) > 0.999


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.05])
@pytest.mark.parametrize("coils", [1, 8])
def test_k_space_with_phase_is_not_hermitian(noise: float, coils: int) -> None:
    assert hermitian_coherence(simulate(head(96, 80), coils=coils, noise=noise).kspace[0]) < 0.9


def test_too_few_pairs_say_nothing() -> None:
    kspace = np.zeros((1, 32, 32), np.complex64)
    kspace[0, :10] = 1
    assert hermitian_coherence(kspace) is None


def test_zero_borders_are_counted(clean: Kspace) -> None:
    padded = np.pad(clean, ((0, 0), (0, 0), (9, 11)))
    assert empty_border(is_empty(line_energy(padded, 1))) == 9
    assert empty_border(is_empty(line_energy(padded, 0))) == 0
    assert empty_border(is_empty(line_energy(clean, 1))) == 0


@pytest.mark.parametrize("side", [np.s_[:20], np.s_[60:]])
def test_partial_fourier_is_no_padding(side: slice) -> None:
    empty = np.zeros(80, bool)
    empty[side] = True
    assert empty_border(empty) == 0
    assert encoded_lines(~empty) == 80


@pytest.mark.parametrize("kind", [kind for kind in MASKS if kind != "poisson"])
@pytest.mark.parametrize("acceleration", [2, 4, 8])
def test_what_a_mask_leaves_out_is_no_padding(kind: str, acceleration: int) -> None:
    for seed in range(60):
        assert empty_border(~make_mask(kind, (64, 132), acceleration, 0.08, seed=seed)) == 0


@pytest.mark.parametrize(("kind", "acceleration"), [("equispaced", 4), ("equispaced_fraction", 4), ("random", 3)])
def test_padding_of_an_undersampled_scan_is_found(kind: str, acceleration: int) -> None:
    mask = np.pad(make_mask(kind, (64, 256), acceleration, 0.08, seed=1), 64)
    assert 64 <= empty_border(~mask) <= 75


@given(st.integers(4, 60), st.integers(0, 20), st.integers(0, 20))
def test_declared_padding_is_the_same_on_both_sides(half: int, border: int, left_out: int) -> None:
    """What lacks on one side beyond the padding was left out by partial Fourier; one line is the matrix's parity."""
    n = 2 * (half + border)
    left_out = min(left_out, half - 1)
    first, stop = border, n - border - left_out
    measured = np.zeros(n, bool)
    measured[first:stop] = True
    assert encoded_lines(measured, (first, stop)) == 2 * half - (left_out == 1)


def test_an_interpolated_magnitude_has_a_step(clean: Kspace) -> None:
    finer = np.pad(clean, ((0, 0), (48, 48), (40, 40)))
    picture = np.sqrt((np.abs(centred_ifft2(finer)) ** 2).sum(axis=0))
    for axis, border in ((0, 48), (1, 40)):
        fall, width = border_step(line_energy(centred_fft2(picture)[None], axis))
        assert fall > 7
        assert abs(width - border) <= 4
        assert border_step(line_energy(clean, axis))[0] < 5


def test_grey_levels_are_counted() -> None:
    smooth = np.random.default_rng(0).random(20000)
    assert grey_levels(smooth) is None
    assert grey_levels(np.round(smooth * 255)) == 256
    assert grey_levels(np.round(smooth * 255) * np.float32(3e-9) + np.float32(1e-8)) == 256
    assert grey_levels(np.round(smooth * 15)) == 16
    assert grey_levels(np.round(smooth * 4095)) is None
    assert grey_levels(np.zeros(9)) is None
    assert grey_levels(smooth[:250]) is None, "no more values than pixels"
    assert grey_levels(np.sqrt(np.round(smooth * 255))) == 256, "of any spacing"
    assert grey_levels(np.random.default_rng(1).choice(smooth[:30], 20000)) is None, "a drawing"
    assert grey_levels(head(200, 200)[0].ravel().astype(np.float64)) is None


@pytest.mark.parametrize("quality", [50, 75, 90])
def test_jpeg_is_told_by_its_blocks(quality: int, shared_data: object) -> None:
    picture = np.sqrt((np.abs(centred_ifft2(brain8(shared_data))) ** 2).sum(axis=0)).astype(np.float64)
    stream = io.BytesIO()
    Image.fromarray((picture / picture.max() * 255).astype(np.uint8)).save(stream, "JPEG", quality=quality)
    blocky = np.asarray(Image.open(stream)).astype(np.float64)
    noise = np.random.default_rng(0).standard_normal(picture.shape)
    assert block_score(blocky) > 10
    assert block_score(np.roll(blocky, (3, 5), (0, 1)) + noise) > 10
    assert block_score(picture) < 5
    assert block_score(np.round(picture / picture.max() * 255)) < 5


def test_copied_coils_are_alike(clean: Kspace) -> None:
    copied = np.concatenate([clean, clean[1:2] * (0.2 - 3j)])
    likeness = coil_likeness(copied)
    assert likeness[1, 4] == pytest.approx(1, abs=1e-6)
    likeness[1, 4] = likeness[4, 1] = 0
    np.fill_diagonal(likeness, 0)
    assert likeness.max() < 0.99
    copied[2] = 0
    assert coil_likeness(copied)[2].max() == 0


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_clipped_samples_share_the_limit(clean: Kspace, share: float) -> None:
    assert most_at_limit(clean) == 1
    limit = share * np.abs(clean.real).max()
    clipped = np.clip(clean.real, -limit, limit) + 1j * np.clip(clean.imag, -limit, limit)
    assert most_at_limit(clipped.astype(np.complex64)) >= 3


@pytest.mark.parametrize("part", [0.5, 5.0])
def test_a_constant_makes_a_bright_centre(clean: Kspace, part: float) -> None:
    noise = 0.01 * np.abs(centred_ifft2(clean)).max()
    assert centre_pixel(clean) < 4
    assert centre_pixel((clean + part * noise * (1 - 0.5j)).astype(np.complex64)) > 8


def test_a_constant_is_seen_in_undersampled_k_space(clean: Kspace) -> None:
    mask = make_mask("equispaced", (96, 80), 4, 0.16)
    offset = 0.01 * np.abs(centred_ifft2(clean)).max()
    assert centre_pixel(np.where(mask, clean, 0)) < 4
    assert centre_pixel(np.where(mask, clean + offset, 0).astype(np.complex64)) > 8


@given(st.integers(0, 95), st.integers(0, 79), st.sampled_from([40, 1000]), st.booleans())
def test_a_spike_is_found_where_it_is(y: int, x: int, size: int, undersampled: bool) -> None:
    kspace = simulate(head(96, 80), coils=4, noise=0.01, seed=3).kspace[0]
    mask = make_mask("equispaced", (96, 80), 4, 0.16) if undersampled else np.ones(80, bool)
    x = int(np.flatnonzero(mask)[np.argmin(np.abs(np.flatnonzero(mask) - x))])
    if np.hypot((y - 48) / 48, (x - 40) / 40) < 0.6:
        y = 2
    level = np.median(np.abs(kspace[:, :20]))
    kspace[:, y, x] += size * level
    ratio, place = strongest_spike(coil_energy(np.where(mask, kspace, 0)))
    assert ratio > 60
    assert place == (y, x)


def test_clean_k_space_has_no_spikes(clean: Kspace) -> None:
    energy = coil_energy(clean)
    assert strongest_spike(energy)[0] < 20
    assert max(strongest_line(energy, axis)[0] for axis in (0, 1)) < 2.5


def test_a_grid_in_the_object_is_no_spike() -> None:
    y, x = np.mgrid[:128, :128]
    grid = head(128, 128)[0] * (1 + 0.8 * np.cos(2 * np.pi * 30 * y / 128) * np.cos(2 * np.pi * 26 * x / 128))
    kspace = simulate(grid, coils=4, noise=0.01).kspace[0]
    assert strongest_spike(coil_energy(kspace))[0] < 60
    kspace[:, 10, 20] += 1000 * np.median(np.abs(kspace[:, :20]))
    assert strongest_spike(coil_energy(kspace))[1] == (10, 20)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_disturbed_line_is_found(clean: Kspace, axis: int) -> None:
    lines = np.moveaxis(clean.copy(), 1 + axis, 1)
    lines[:, 12] *= 3
    ratio, number = strongest_line(coil_energy(np.moveaxis(lines, 1, 1 + axis)), axis)
    assert ratio > 3.5
    assert number == 12


def test_an_object_at_both_edges_is_wrapped() -> None:
    picture = head(96, 80)[0].astype(np.float64)
    assert wrapped_share(picture) == 0
    assert wrapped_share(np.roll(picture, 40, axis=1)) > 0.3
    assert wrapped_share(np.roll(picture, 8, axis=1)) < 0.05, "one edge only"
    assert wrapped_share(picture[:, 16:64]) > 0.3
    assert wrapped_share(np.roll(picture, 40, axis=1), noise_floor=1.0) == 0


def test_real_scans_are_clean(shared_data: object) -> None:
    kspace = brain8(shared_data)
    coherence, likeness, at_limit, centre, spike, wrapped, blocks, *_ = statistics(kspace)
    assert coherence < 0.4
    assert likeness < 0.99
    assert at_limit == 1
    assert centre < 3
    assert spike < 20
    assert wrapped < 0.02
    assert blocks < 6
