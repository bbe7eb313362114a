from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny import tiny_model, tiny_scan

import nirvana_mri as nm
from nirvana_mri.errors import DataError, ScanError, UsageError
from nirvana_mri.recon.coverage import distance_warnings
from nirvana_mri.recon.pipeline import METHODS
from nirvana_mri.scan import Scan

ACCELERATE = {"accelerate": 4, "center_fraction": 0.16}


@pytest.fixture(scope="module")
def scan() -> Scan:
    return tiny_scan(slices=3)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_a_stamped_volume(scan: Scan, method: str) -> None:
    volume = nm.reconstruct(scan, tiny_model(), method, **ACCELERATE)
    assert volume.voxels.shape == (3, 64, 56)
    assert volume.voxels.dtype == np.float32
    assert np.isfinite(volume.voxels).all()
    stamp = volume.provenance
    assert stamp["method"] == method
    assert stamp["notice"] == "not for clinical use"
    assert stamp["simulated"] is True
    assert stamp["sampling"]["achieved_acceleration"] == pytest.approx(56 / volume.mask.sum(), rel=1e-3)
    assert (stamp["model_sha256"] is not None) == (method == "nirvana")


@pytest.mark.parametrize("method", METHODS)
def test_a_fully_sampled_scan_is_only_combined(scan: Scan, method: str) -> None:
    volume = nm.reconstruct(scan, tiny_model(), method)
    assert nm.evaluate(volume, scan).ssim > 0.999999
    assert "nothing to restore" in volume.provenance["applied"]
    assert any("fully sampled" in warning for warning in volume.warnings)


def test_an_undersampled_scan_is_reconstructed_from_what_it_holds(tmp_path: Path) -> None:
    from nirvana_mri.io.fastmri import write_fastmri
    from nirvana_mri.physics.masks import make_mask

    full = tiny_scan()
    mask = make_mask("random", (64, 56), 3, 0.2, 0)
    kspace = np.where(mask, full.kspace[0], 0).astype(np.complex64)[None]
    write_fastmri(tmp_path / "under.h5", kspace, mask=mask)
    scan = nm.open_scan(tmp_path / "under.h5")
    volume = nm.reconstruct(scan, method="sense")
    thinned = nm.reconstruct(full, method="sense", mask=mask)
    np.testing.assert_array_equal(volume.voxels, thinned.voxels)
    assert volume.provenance["sampling"]["origin"] == "as acquired"
    assert thinned.provenance["sampling"]["origin"] == "retrospective"


def test_phase_is_kept_on_request(scan: Scan) -> None:
    volume = nm.reconstruct(scan, method="sense", keep_phase=True, **ACCELERATE)
    assert volume.voxels.dtype == np.complex64
    plain = nm.reconstruct(scan, method="sense", combine="sense", **ACCELERATE)
    np.testing.assert_allclose(volume.magnitude, plain.voxels, rtol=1e-5)


def test_slices_are_chosen_by_number(scan: Scan) -> None:
    whole = nm.reconstruct(scan, method="sense", **ACCELERATE)
    part = nm.reconstruct(scan, method="sense", slices=range(1, 3), **ACCELERATE)
    assert part.slices == (1, 2)
    np.testing.assert_array_equal(part.voxels, whole.voxels[1:])


def test_progress_is_told_after_each_slice(scan: Scan) -> None:
    seen = []
    nm.reconstruct(scan, method="zero-filled", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_mask_file_is_applied(scan: Scan, tmp_path: Path) -> None:
    mask = np.arange(56) % 2 == 0
    np.save(tmp_path / "mine.npy", mask)
    volume = nm.reconstruct(scan, method="zero-filled", mask=tmp_path / "mine.npy")
    np.testing.assert_array_equal(volume.mask, mask)
    assert volume.provenance["sampling"]["mask"] == "file mine.npy"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "magic"}, "method is 'magic'"),
        ({"combine": "sum"}, "combine is 'sum'"),
        ({"combine": "sum", "keep_phase": True}, "combine is 'sum'"),
        ({"device": "abacus"}, "device is 'abacus'"),
        ({"slices": range(2, 9)}, "expected at least one of 0 to 2"),
        ({"slices": []}, "expected at least one"),
        ({"mask": "no-such-kind", "accelerate": 4}, "a kind is one of"),
        ({"mask": np.ones((1, 2, 3), dtype=bool)}, "expected bool"),
        ({"accelerate": 0.5}, "0.5"),
    ],
)
def test_impossible_options_are_usage_errors(scan: Scan, options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        nm.reconstruct(scan, **({"method": "sense"} | options))


def test_a_mask_of_another_size_is_refused(scan: Scan) -> None:
    with pytest.raises(DataError):
        nm.reconstruct(scan, method="sense", mask=np.ones(40, dtype=bool))


def test_a_bad_slice_is_named() -> None:
    scan = tiny_scan(slices=2)

    class Broken:
        shape = scan.kspace.shape

        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> np.ndarray:
            return scan.kspace[index] * np.complex64(0 if index == 1 else 1)

    with pytest.raises(ScanError, match="slice 1: largest measured sample is 0"):
        nm.reconstruct(replace(scan, kspace=Broken()), method="sense")


COVERS = {"accelerations": [3, 8], "coils": [1, 16], "matrix": [60, 400], "anatomy": ["brain"]}


def test_input_inside_the_card_brings_no_warning(scan: Scan) -> None:
    assert distance_warnings(COVERS, scan, 4.09) == ()


@pytest.mark.parametrize(
    ("change", "acceleration", "message"),
    [
        ({}, 12.0, "acceleration 12x lies outside"),
        ({"metadata": {"acquisition": "CORPD_FBK"}}, 4.0, "seems to be of the knee"),
        ({"crop": (32, 32)}, 4.0, "smaller matrix side 32"),
    ],
)
def test_distance_from_the_card_is_named(scan: Scan, change: dict, acceleration: float, message: str) -> None:
    notes = distance_warnings(COVERS, replace(scan, **change), acceleration)
    assert len(notes) == 1
    assert message in notes[0]


@pytest.mark.parametrize("planar", [False, True])
def test_a_mask_without_the_centre_gives_one_line_but_a_zero_filled_picture(scan: Scan, planar: bool) -> None:
    mask = np.arange(56) % 2 == 1  # the centre, column 28, is even
    if planar:
        mask = mask & (np.arange(64) % 3 > 0)[:, None]
    with pytest.raises(ScanError, match="leaves out the centre"):
        nm.reconstruct(scan, method="sense", mask=mask)
    assert np.isfinite(nm.reconstruct(scan, method="zero-filled", mask=mask).voxels).all()
