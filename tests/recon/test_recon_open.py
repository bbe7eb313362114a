"""Pictures as scans: stamped, fully sampled, and the same pictures again when they are reconstructed."""

import pickle
import tarfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
from tiny import head
from written import oblique

import nirvana_mri as nm
from nirvana_mri.errors import DataError, ScanError, UsageError
from nirvana_mri.io.save import load_volume, save
from nirvana_mri.recon.open import open_scan
from nirvana_mri.volume import SYNTHETIC

AFFINE = oblique((0.2, -0.1, 0.15), (0.75, 0.9, 4.0), (-40.0, 12.5, 30.0))


def nifti(path: Path, pictures: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    """``[slice, ny, nx]`` (or ``[volume, slice, ny, nx]``) as NIfTI."""
    nibabel.save(nibabel.Nifti1Image(pictures.T, affine), path)
    return path


def pictures(slices: int = 4) -> np.ndarray:
    """A head that ends: the outer slices are empty, as stripped ones are."""
    found = 700 * head(40, 32, slices)
    found[0] = found[-1] = 0
    return found


def test_a_picture_becomes_a_stamped_scan(tmp_path: Path) -> None:
    scan = open_scan(nifti(tmp_path / "head.nii.gz", pictures()))
    assert not scan.raw
    assert scan.simulated
    assert scan.fully_sampled
    assert scan.shape == (4, 8, 40, 32)
    assert scan.metadata["kspace"] == SYNTHETIC == "synthetic k-space: from magnitude images"
    assert any(warning.startswith(SYNTHETIC) for warning in scan.warnings)
    assert scan.kspace[1].tobytes() == scan.kspace[1].tobytes()
    assert pickle.loads(pickle.dumps(scan)).kspace[1].tobytes() == scan.kspace[1].tobytes()


def test_without_acceleration_the_voxels_are_the_pictures_in_the_same_place(tmp_path: Path) -> None:
    given = pictures()
    scan = open_scan(nifti(tmp_path / "head.nii", given))
    volume = nm.reconstruct(scan)
    expected = np.stack([np.asarray(scan.reference[number]) for number in range(4)])
    np.testing.assert_allclose(volume.voxels, expected, rtol=0, atol=1e-5 * given.max())
    assert not volume.voxels[0].any()
    np.testing.assert_array_equal(volume.affine, scan.geometry.affine)
    assert volume.orientation_known
    assert volume.provenance["source"]["raw"] is False
    assert volume.provenance["source"]["kspace"] == SYNTHETIC


@pytest.mark.parametrize("method", ["zero-filled", "sense", "wavelet", "nirvana"])
def test_it_can_be_accelerated_empty_slices_included(tmp_path: Path, method: str) -> None:
    from tiny import tiny_model

    scan = open_scan(nifti(tmp_path / "head.nii", pictures()))
    volume = nm.reconstruct(scan, tiny_model(), method, 3, center_fraction=0.2)
    assert np.isfinite(volume.voxels).all()
    assert not volume.voxels[0].any()
    assert volume.voxels[1].any()
    assert volume.provenance["source"]["raw"] is False


def test_an_empty_slice_of_raw_data_is_still_an_error() -> None:
    from dataclasses import replace

    scan = open_scan_of_zeros()
    with pytest.raises(ScanError, match="largest measured sample is 0"):
        nm.reconstruct(scan, method="zero-filled")
    assert not nm.reconstruct(replace(scan, raw=False), method="zero-filled").voxels.any()


def open_scan_of_zeros() -> nm.Scan:
    from dataclasses import replace

    from tiny import tiny_scan

    return replace(tiny_scan(), kspace=np.zeros((1, 4, 64, 56), np.complex64))


def test_every_output_is_stamped(tmp_path: Path) -> None:
    volume = nm.reconstruct(open_scan(nifti(tmp_path / "head.nii", pictures())), method="zero-filled")
    for name in ("out.h5", "out.nii.gz", "out.png", "out.dcm"):
        save(volume, tmp_path / name)
    assert load_volume(tmp_path / "out.h5").provenance["source"]["kspace"] == SYNTHETIC
    for path in (tmp_path / "out.h5", tmp_path / "out.json", tmp_path / "out.png", *(tmp_path / "out.dcm").iterdir()):
        assert SYNTHETIC.encode() in path.read_bytes(), path


def test_small_pictures_and_options_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="at least 16 pixels"):
        open_scan(nifti(tmp_path / "small.nii", np.ones((3, 12, 32), np.float32)))
    with pytest.raises(UsageError, match="no option axes"):
        open_scan(nifti(tmp_path / "head.nii", pictures()), axes="coil ny nx")
    with pytest.raises(ScanError, match="no such file"):
        open_scan(tmp_path / "missing.nii")


def test_volumes_are_opened_one_at_a_time(tmp_path: Path) -> None:
    series = np.stack([pictures() * factor for factor in (1, 2, 3)])
    path = nifti(tmp_path / "series.nii.gz", series)
    scan = open_scan(path)
    assert (scan.volume, scan.volumes) == (0, 3)
    last = open_scan(path, volume=2)
    np.testing.assert_allclose(last.kspace[1], 3 * scan.kspace[1], rtol=1e-4, atol=1e-2)
    with pytest.raises(UsageError, match="from 0 to 2"):
        open_scan(path, volume=3)


SERIES = {
    "siemens_skyra_mprage_child": "sag",
    "ge_mr750_epi_fmri": "nihge",
    "philips_classic_t1_and_enhanced_b0": "phsel/phenh/In/Philips",
    "siemens_vida_xa10_enhanced_epi": "phenh/In/Siemens/XA10",
}


@pytest.mark.parametrize("name", SERIES)
def test_a_real_series_comes_back_in_the_same_place(shared_data: Path, tmp_path: Path, name: str) -> None:
    """DICOM, reconstructed, written as DICOM and NIfTI, and opened again: three slices of it, voxel for voxel."""
    with tarfile.open(shared_data / "dicom" / f"{name}.tar.xz") as packed:
        packed.extractall(tmp_path / "in", filter="data")
    try:
        scan = open_scan(tmp_path / "in" / SERIES[name])
    except DataError as problem:
        pytest.fail(str(problem))
    volume = nm.reconstruct(scan, method="zero-filled", slices=range(1, 4))
    given = np.stack([np.abs(scan.reference[number]) for number in range(1, 4)])
    np.testing.assert_allclose(volume.voxels, given, rtol=0, atol=2e-6 * given.max())
    save(volume, tmp_path / "out.dcm")
    save(volume, tmp_path / "out.nii.gz")
    again = open_scan(tmp_path / "out.dcm")
    affine = np.array(scan.geometry.affine)
    affine[:3, 3] += affine[:3, 2]
    np.testing.assert_allclose(again.geometry.affine, affine, atol=1e-4)
    np.testing.assert_allclose(nibabel.load(tmp_path / "out.nii.gz").affine, affine, atol=1e-4)
    stored = np.stack([np.asarray(again.reference[number]) for number in range(3)])
    factor = float((stored * given).sum() / (stored * stored).sum())
    np.testing.assert_allclose(factor * stored, given, rtol=0, atol=1e-4 * given.max())
