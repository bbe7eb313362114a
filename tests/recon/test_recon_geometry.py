"""Raw data in, a picture in the patient out: ISMRMRD to NIfTI and DICOM."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from mrd_support import NOISE, Line, encoding_xml, header_xml, lines_of, write_mrd
from scipy.spatial.transform import Rotation
from tiny import head
from written import affine_of, images

import nirvana_mri as nm
from nirvana_mri.io.save import load_volume, save
from nirvana_mri.recon.simulate import simulate

CORNER, SPACING, PIXEL = np.array([12.0, -30.0, 44.0]), 5.0, (1.5, 1.25, 5.0)
FRAME = Rotation.from_euler("xyz", (20, -35, 50), degrees=True).as_matrix()  # columns read, phase, slice in LPS


@pytest.fixture
def oblique(tmp_path: Path) -> Path:
    """Three oblique slices of a head, twofold oversampled, their lines in no order of place, and measured noise."""
    made = simulate(head(64, 32, 3), coils=4, noise=0.01, seed=2)
    rows = tuple(tuple(float(x) for x in FRAME[:, axis]) for axis in range(3))
    draw = np.random.default_rng(0)
    noise = (draw.standard_normal((4, 512)) + 1j * draw.standard_normal((4, 512))).astype(np.complex64)
    lines = [Line(noise, flags=(NOISE,))]
    for number in (2, 0, 1):
        place = tuple(float(x) for x in CORNER + number * SPACING * FRAME[:, 2])
        lines += lines_of(made.kspace[number], idx={"slice": number}, position=place, directions=rows)
    xml = header_xml(encoding_xml((64, 32, 1), (32, 32, 1), pixel=PIXEL))
    return write_mrd(tmp_path / "oblique.h5", xml, lines)


def expected() -> np.ndarray:
    """(x, y, slice) to RAS: a position is the centre of its slice, pixel (16, 16) of 32 x 32."""
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([FRAME[:, 1] * PIXEL[1], FRAME[:, 0] * PIXEL[0], FRAME[:, 2] * SPACING])
    affine[:3, 3] = CORNER - affine[:3, :2] @ [16, 16]
    return np.diag([-1.0, -1, 1, 1]) @ affine


@pytest.mark.parametrize("method", ["zero-filled", "sense"])
def test_ismrmrd_keeps_its_place_in_nifti_and_dicom(oblique: Path, tmp_path: Path, method: str) -> None:
    scan = nm.open_scan(oblique)
    volume = nm.reconstruct(scan, method=method, accelerate=2, center_fraction=0.3)
    assert volume.provenance["prewhitened"] is (method == "sense")
    save(volume, tmp_path / "out.nii.gz")
    save(volume, tmp_path / "out.dcm")
    written = nibabel.load(tmp_path / "out.nii.gz")
    np.testing.assert_allclose(written.affine, expected(), atol=1e-3)
    np.testing.assert_array_equal(np.asarray(written.dataobj).T, volume.voxels)
    assert load_volume(tmp_path / "out.nii.gz").orientation_known
    series = images(tmp_path / "out.dcm")
    np.testing.assert_allclose(affine_of(series), expected(), atol=1e-3)
    stored = np.stack([image.pixel_array for image in series]).astype(float)
    factor = (stored * volume.voxels).sum() / (stored * stored).sum()
    np.testing.assert_allclose(factor * stored, volume.voxels, atol=1e-4 * volume.voxels.max())


def test_part_of_the_slices_lies_where_they_lie(oblique: Path, tmp_path: Path) -> None:
    volume = nm.reconstruct(nm.open_scan(oblique), method="zero-filled", slices=[1, 2])
    save(volume, tmp_path / "out.dcm")
    shifted = expected()
    shifted[:3, 3] += shifted[:3, 2]
    np.testing.assert_allclose(affine_of(images(tmp_path / "out.dcm")), shifted, atol=1e-3)
