"""Real series of three makers, against Debian's dcm2niix, which shares no code with this reader."""

import shutil
import subprocess
import tarfile
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from nirvana_mri.io.dicom.elements import Elements, read_header
from nirvana_mri.io.dicom.reader import is_dicom, read_dicom, read_dicom_volumes
from nirvana_mri.scan import Picture

ARCHIVES = {
    "siemens_skyra_mprage_child.tar.xz": ("sag",),
    "ge_mr750_epi_fmri.tar.xz": ("nihge",),
    "siemens_vida_xa10_enhanced_epi.tar.xz": ("phenh/In/Siemens",),
    "philips_classic_t1_and_enhanced_b0.tar.xz": (
        "phsel/ph/Philips/401_T1W_FFE_Sno_CS2",
        "phsel/ph/Philips/501_T1W_FFE_Sno_CS4",
        "phsel/phenh/In/Philips",
    ),
}
SERIES = [(archive, folder) for archive, folders in ARCHIVES.items() for folder in folders]
# (slices, ny, nx), volumes, slice spacing, and where x, y and the slices run to.
EXPECTED = {
    "sag": ((192, 256, 256), 1, 0.9, "PIR"),
    "nihge": ((15, 64, 64), 10, 5.0, "LPS"),
    "phenh/In/Siemens": ((6, 64, 64), 4, 2.4, "LPS"),
    "phsel/ph/Philips/401_T1W_FFE_Sno_CS2": ((24, 256, 256), 1, 5.5, "LPS"),
    "phsel/ph/Philips/501_T1W_FFE_Sno_CS4": ((24, 256, 256), 1, 5.5, "LPS"),
    "phsel/phenh/In/Philips": ((32, 64, 64), 1, 4.0, "LPS"),
}


@pytest.fixture(scope="module")
def unpacked(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dicom")
    for archive in ARCHIVES:
        path = shared_data / "dicom" / archive
        if not path.is_file():
            pytest.skip(f"no {archive} in shared/data/dicom")
        with tarfile.open(path) as packed:
            packed.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def dcm2niix() -> str:
    found = shutil.which("dcm2niix")
    if found is None:
        pytest.skip("dcm2niix is not installed (Debian package dcm2niix)")
    return found


def turned(picture: Picture) -> nibabel.Nifti1Image:
    voxels = np.stack(list(picture.pixels)).transpose(2, 1, 0)
    return nibabel.as_closest_canonical(nibabel.Nifti1Image(voxels, picture.geometry.affine))


@pytest.mark.parametrize("folder", EXPECTED)
def test_order_spacing_and_orientation(unpacked: Path, folder: str) -> None:
    shape, volumes, step, axes = EXPECTED[folder]
    assert is_dicom(unpacked / folder)
    picture = read_dicom(unpacked / folder)
    assert (picture.shape, picture.volumes) == (shape, volumes)
    assert picture.geometry.voxel_mm is not None
    assert picture.geometry.voxel_mm[0] == pytest.approx(step, abs=1e-4)
    assert "".join(nibabel.aff2axcodes(picture.geometry.affine)) == axes
    assert picture.metadata["field_strength_t"] == 3
    assert picture.metadata["body_part"] == "BRAIN"


@pytest.mark.parametrize("folder", EXPECTED)
def test_dcm2niix_puts_the_same_voxels_in_the_same_place(
    unpacked: Path, dcm2niix: str, tmp_path: Path, folder: str
) -> None:
    command = [dcm2niix, "-b", "n", "-f", "out", "-o", str(tmp_path), str(unpacked / folder)]
    subprocess.run(command, check=True, capture_output=True)
    [found] = [path for path in tmp_path.glob("*.nii") if "fieldmap" not in path.name]
    theirs = nibabel.as_closest_canonical(nibabel.load(found))
    values = theirs.get_fdata().reshape(*theirs.shape[:3], -1)
    for volume, picture in list(enumerate(read_dicom_volumes(unpacked / folder)))[::3]:
        ours = turned(picture)
        np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-4)
        found, expected = ours.get_fdata(), values[..., volume]
        # It gives Philips' private scale: one constant over a series.
        scale = (found * expected).sum() / (expected**2).sum()
        assert scale == pytest.approx(1) or "Philips" in folder
        np.testing.assert_allclose(found, scale * expected, atol=1e-6 * found.max())


def test_the_header_is_read_as_pydicom_reads_it(unpacked: Path) -> None:
    files = sorted(unpacked.rglob("*.dcm"))
    assert len(files) == 372
    checked = 0
    for path in files[::7]:
        checked += compare(read_header(path).elements, pydicom.dcmread(path, stop_before_pixels=True))
    assert checked > 1000


def compare(ours: Elements, theirs: pydicom.Dataset) -> int:
    checked = 0
    for name, (kind, _) in ours.values.items():
        if name.startswith(("Siemens", "Ge")):
            continue
        value = theirs[name].value
        several = [] if value in (None, "") else [value] if isinstance(value, str | int | float) else list(value)
        if kind in ("CS", "LO", "UI"):
            assert [text for text in ours.texts(name) if text] == [str(text) for text in several]
        else:
            assert list(ours.numbers(name)) == [float(number) for number in several]
        checked += 1
    for name, items in ours.items.items():
        for mine, other in zip(items, theirs[name].value, strict=True):
            checked += compare(mine, other)
    return checked


def test_series_side_by_side_are_not_mixed(unpacked: Path) -> None:
    with pytest.raises(Exception, match=r"holds 2 series, expected one: 24 images of 256 x 256"):
        read_dicom(unpacked / "phsel" / "ph")
