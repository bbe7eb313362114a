"""inspect: says what is in a scan, and how much noise."""

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from support import write_brain8
from tiny import head, tiny_scan

import nirvana_mri as nm
from nirvana_mri.errors import ScanError
from nirvana_mri.io.fastmri import write_fastmri
from nirvana_mri.physics.masks import make_mask
from nirvana_mri.ranges import number_ranges
from nirvana_mri.report.encoding import encoded_acceleration
from nirvana_mri.report.facts import scan_facts


def test_a_file_is_described(tmp_path: Path) -> None:
    nm.simulate(head(64, 56, 3), coils=4, voxel_mm=(5, 1.5, 2), out=tmp_path / "head.h5")
    found = nm.inspect(tmp_path / "head.h5")
    assert (found.slices, found.coils, found.matrix, found.picture) == (3, 4, (64, 56), (64, 56))
    assert found.fully_sampled
    assert found.sampling == "full"
    assert found.acceleration == 1
    assert found.calibration == (64, 56)
    assert found.voxel_mm == pytest.approx((5, 1.5, 2))
    assert found.has_target
    assert found.simulated
    assert not found.orientation_known
    assert any("simulated" in note for note in found.warnings)
    assert any("orientation" in note for note in found.warnings)
    assert found.notice == "not for clinical use"


def test_an_undersampled_scan_is_described(tmp_path: Path) -> None:
    full = tiny_scan(64, 128)
    mask = make_mask("equispaced_fraction", (64, 128), 4, 0.08)
    kspace = np.where(mask, full.kspace[0], 0).astype(np.complex64)[None]
    write_fastmri(tmp_path / "under.h5", kspace, mask=mask)
    found = nm.inspect(tmp_path / "under.h5")
    assert not found.fully_sampled
    assert found.sampling.startswith("like equispaced_fraction")
    assert found.measured_columns == mask.sum()
    assert found.acceleration == pytest.approx(4, rel=0.1)
    assert found.calibration == (64, 10)
    assert not found.has_target


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e20])
@pytest.mark.parametrize("coils", [1, 8])
def test_noise_and_signal_are_measured(scale: float, coils: int) -> None:
    """On a picture of one smooth blob, whose k-space leaves the corners to the noise."""
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    blob = np.exp(-8 * (x**2 + y**2)) * scale
    found = nm.inspect(nm.simulate(blob, coils=coils, noise=0.02))
    sigma = 0.02 * blob.max() / np.sqrt(2)
    assert found.noise == pytest.approx(sigma, rel=0.1)
    assert found.snr == pytest.approx(np.percentile(blob, 90) / sigma, rel=0.25)


def test_signal_to_noise_survives_undersampling() -> None:
    scan = tiny_scan(64, 128)
    mask = make_mask("equispaced_fraction", (64, 128), 4, 0.16)
    kspace = np.where(mask, scan.kspace[0], 0).astype(np.complex64)[None]
    under = replace(scan, kspace=kspace, acquired=mask, reference=None)
    assert nm.inspect(under).snr == pytest.approx(nm.inspect(scan).snr, rel=0.3)


def test_too_little_calibration_is_said() -> None:
    scan = tiny_scan()
    few, none = np.ones(56, bool), np.ones(56, bool)
    few[[25, 31]] = none[28] = False
    assert any("calibration lines" in note for note in nm.inspect(replace(scan, acquired=few)).warnings)
    assert any("centre of k-space" in note for note in nm.inspect(replace(scan, acquired=none)).warnings)


def test_the_description_is_json(tmp_path: Path) -> None:
    found = nm.inspect(nm.simulate(head(), out=tmp_path / "head.h5"))
    stored = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert stored["matrix"] == [64, 56]
    assert stored["warnings"] == list(found.warnings)


def test_every_fact_has_a_value() -> None:
    facts = dict(scan_facts(nm.inspect(tiny_scan(slices=2))))
    assert facts["slices, coils"] == "2 slices, 4 coils"
    assert facts["voxel size"] == "unknown: the file does not say"
    assert facts["origin"] == "simulated from a picture"
    assert all(facts.values())


def test_no_file_is_no_scan(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="no such file"):
        nm.inspect(tmp_path / "none.h5")


def test_the_real_brain(shared_data: Path, tmp_path: Path) -> None:
    found = nm.inspect(write_brain8(shared_data, tmp_path / "brain.h5"))
    assert (found.coils, found.matrix) == (8, (230, 180))
    assert found.fully_sampled
    assert not found.simulated
    assert 10 < found.snr < 200


@pytest.mark.parametrize(
    ("numbers", "words"), [([0, 1, 2, 5], "0–2, 5"), ([3], "3"), ([], ""), ([1, 3, 5], "1, 3, 5"), ([4, 5], "4–5")]
)
def test_numbers_in_ranges(numbers: list[int], words: str) -> None:
    assert number_ranges(numbers) == words


def test_missing_things_are_listed() -> None:
    scan = replace(tiny_scan(), simulated=False)
    lacks = " ".join(nm.inspect(scan).missing)
    assert all(word in lacks for word in ("voxel size", "orientation", "noise scan"))
    assert "calibration" not in lacks
    few = np.zeros(56, bool)
    few[26:30] = few[::4] = True
    assert any("calibration lines" in lack for lack in nm.inspect(replace(scan, acquired=few)).missing)


def test_a_noise_scan_gives_the_noise() -> None:
    scan = tiny_scan()
    draw = np.random.default_rng(0).standard_normal((4, 5000, 2)) @ (1, 1j)
    found = nm.inspect(replace(scan, noise=(0.03 * draw).astype(np.complex64)))
    assert found.noise == pytest.approx(0.03, rel=0.05)
    assert found.noise_from == "the noise scan"
    assert not any("noise scan" in lack for lack in found.missing)


def acceleration(acquired: np.ndarray, **metadata: object) -> float:
    scan = replace(tiny_scan(64, 64), acquired=acquired, metadata=metadata)
    return encoded_acceleration(scan)


def test_acceleration_counts_encoded_over_measured_lines() -> None:
    full, partial, padded = np.ones(64, bool), np.ones(64, bool), np.zeros(64, bool)
    partial[:16] = False
    padded[8:56] = True
    every = np.zeros(64, bool)
    every[8:56:4] = True
    assert acceleration(full) == 1
    assert acceleration(partial) == pytest.approx(64 / 48), "partial Fourier counts"
    assert acceleration(padded) == 1, "padding does not, declared or not"
    assert acceleration(padded, padding_left=8, padding_right=56) == 1
    assert acceleration(every, padding_left=8, padding_right=56) == 4
    assert acceleration(partial, padding_left=0, padding_right=64) == pytest.approx(64 / 48)
    assert acceleration(partial, padding_left=16, padding_right=64) == pytest.approx(64 / 48)


def test_acceleration_of_echoes_in_part_and_of_single_samples() -> None:
    echo = np.zeros((64, 64), bool)
    echo[20:, ::2] = True
    assert acceleration(echo) == 2, "a partial echo is a whole line"
    samples = np.zeros((64, 64), bool)
    samples[::2, ::2] = samples[28:36, 28:36] = True
    assert acceleration(samples) == pytest.approx(64 * 64 / samples.sum())
    scan = replace(tiny_scan(64, 64), acquired=samples)
    assert nm.inspect(scan).calibration_lines == 8


def test_volumes_are_counted(tmp_path: Path) -> None:
    volumes = np.random.default_rng(0).random((3, 4, 32, 32)).astype(np.float32) + head(32, 32, 4)
    nib.save(nib.Nifti1Image(volumes.T, np.eye(4)), tmp_path / "series.nii")
    found = nm.inspect(tmp_path / "series.nii", volume=1)
    assert (found.volume, found.volumes, found.coils, found.raw) == (1, 3, 1, False)
    facts = dict(scan_facts(found))
    assert facts["volumes"] == "3, of which this is 1 (from 0)"
    assert facts["origin"] == "pictures: k-space can only be simulated"


def test_magnitudes_are_not_raw() -> None:
    shifted = np.fft.ifftshift(head(64, 64), axes=(-2, -1))
    kspace = np.fft.fftshift(np.fft.fft2(shifted), axes=(-2, -1)).astype(np.complex64)[:, None]
    found = nm.inspect(replace(tiny_scan(64, 64), kspace=kspace, simulated=False, reference=None))
    assert not found.raw
    assert found.worst() == "error"
