"""Where the picture of an ISMRMRD file lies: order and spacing from positions, LPS turned into RAS once."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mrd_support import Line, encoding_xml, header_xml, lines_of, random_kspace, write_mrd
from scipy.spatial.transform import Rotation

from nirvana_mri.errors import ScanError
from nirvana_mri.io.ismrmrd.reader import read_ismrmrd

COILS, NY, NX = 2, 8, 6
XML = header_xml(encoding_xml((NY, NX, 1), (4, NX, 1), pixel=(2.0, 1.5, 4.0)))
AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def stack(positions, directions=AXIAL, seed: int = 0) -> list[Line]:
    """A slice of value 1 + number for each position; slices and lines shuffled in time, idx.slice not in order."""
    rng = np.random.default_rng(seed)
    numbers = rng.permutation(len(positions)) + 3
    lines = []
    for n, position in enumerate(positions):
        kspace = np.full((COILS, NY, NX), n + 1, np.complex64)
        lines += lines_of(kspace, idx={"slice": int(numbers[n])}, position=position, directions=directions)
    return [lines[n] for n in rng.permutation(len(lines))]


def oblique(seed: int) -> np.ndarray:
    """Columns read, phase, slice in LPS."""
    return Rotation.random(rng=np.random.default_rng(seed)).as_matrix()


def rows(frame: np.ndarray):
    return tuple(tuple(float(x) for x in frame[:, i]) for i in range(3))


@given(seed=st.integers(0, 500), count=st.integers(1, 6), spacing=st.floats(0.5, 20))
def test_oblique_stacks_lie_where_the_heads_say(
    tmp_path_factory: pytest.TempPathFactory, seed: int, count: int, spacing: float
) -> None:
    frame, corner = oblique(seed), np.random.default_rng(seed).uniform(-80, 80, 3)
    positions = [tuple(corner + n * spacing * frame[:, 2]) for n in range(count)]
    path = write_mrd(tmp_path_factory.mktemp("mrd") / "scan.h5", XML, stack(positions, rows(frame), seed))
    scan = read_ismrmrd(path)
    assert scan.geometry.orientation_known
    assert scan.geometry.voxel_mm == pytest.approx((spacing if count > 1 else 4.0, 2.0, 1.5), rel=1e-4)
    assert [round(float(k[0, 0, 0].real)) for k in scan] == list(range(1, count + 1))
    # the picture is 4 x 6: its centre pixel is (row 2, column 3)
    for n, (i, j) in ((0, (2, 3)), (count - 1, (0, 5))):
        lps = positions[n] + (i - 2) * 2.0 * frame[:, 0] + (j - 3) * 1.5 * frame[:, 1]
        ras = scan.geometry.affine @ np.array([j, i, n, 1])
        assert np.allclose(ras[:3], lps * [-1, -1, 1], atol=1e-3)


def test_order_comes_from_the_slice_direction(tmp_path: Path) -> None:
    """Along the direction of the slice, even where that points down."""
    down = (AXIAL[0], AXIAL[1], (0.0, 0.0, -1.0))
    scan = read_ismrmrd(write_mrd(tmp_path / "s.h5", XML, stack([(0, 0, 5.0 * n) for n in range(3)], down)))
    assert [round(float(k[0, 0, 0].real)) for k in scan] == [3, 2, 1]
    assert scan.geometry.affine[2, 2] == pytest.approx(-5)
    assert scan.geometry.affine[2, 3] == pytest.approx(10)


def test_odd_crop_of_an_even_matrix_keeps_its_centre(tmp_path: Path) -> None:
    """The crop starts at (8 − 5) // 2 = 1, so zero lies at its pixel 3, not 2."""
    xml = header_xml(encoding_xml((8, 6, 1), (5, 6, 1)))
    scan = read_ismrmrd(write_mrd(tmp_path / "s.h5", xml, stack([(10, 20, 30)])))
    assert scan.crop == (5, 6)
    assert np.allclose(scan.geometry.affine @ [3, 3, 0, 1], [-10, -20, 30, 1])


def test_a_slab_lies_about_its_position(tmp_path: Path) -> None:
    frame = oblique(7)
    kspace = random_kspace(6, COILS, NY, NX)
    lines = [
        line
        for n in range(6)
        for line in lines_of(kspace[n], idx={"kspace_encode_step_2": n}, position=(5, 6, 7), directions=rows(frame))
    ]
    xml = header_xml(encoding_xml((NY, NX, 6), (NY, NX, 4), pixel=(1.0, 1.0, 2.5)))
    scan = read_ismrmrd(write_mrd(tmp_path / "s.h5", xml, lines))
    assert scan.shape[0] == 4
    assert np.allclose((scan.geometry.affine @ [3, 4, 2, 1])[:3], [-5, -6, 7], atol=1e-4)
    assert np.allclose(scan.geometry.affine[:3, 2], 2.5 * frame[:, 2] * [-1, -1, 1], atol=1e-4)
    assert scan.geometry.field_of_view_mm == pytest.approx((10, 8, 6))


def test_without_directions_the_orientation_is_unknown(tmp_path: Path) -> None:
    lines = [line for n in (1, 0, 2) for line in lines_of(random_kspace(COILS, NY, NX, seed=n), idx={"slice": n})]
    scan = read_ismrmrd(write_mrd(tmp_path / "s.h5", XML, lines))
    assert not scan.geometry.orientation_known
    assert scan.geometry.voxel_mm == (4.0, 2.0, 1.5)
    assert np.allclose(scan.geometry.affine @ [3, 2, 1, 1], [0, 0, 0, 1])
    assert np.array_equal(scan.kspace[2], random_kspace(COILS, NY, NX, seed=2))
    assert any("orientation unknown" in note for note in scan.warnings)
    assert any("order of their numbers" in note for note in scan.warnings)


@pytest.mark.parametrize(
    ("positions", "match"),
    [
        ([(0, 0, 0), (0, 0, 5), (0, 0, 15)], r"5 to 10 mm apart, expected even spacing"),
        ([(0, 0, 0), (0, 0, 5), (0, 0, 5)], r"slices \d and \d lie at the same place"),
        ([(0, 0, 0), (0, 2, 5), (0, 4, 10)], r"shifted against each other"),
    ],
)
def test_positions_that_make_no_even_stack_are_refused(tmp_path: Path, positions, match: str) -> None:
    with pytest.raises(ScanError, match=match):
        read_ismrmrd(write_mrd(tmp_path / "s.h5", XML, stack(positions)))


def test_directions_that_contradict_are_refused(tmp_path: Path) -> None:
    sagittal = (AXIAL[1], AXIAL[2], AXIAL[0])
    skew = ((1.0, 0.0, 0.0), (0.6, 0.8, 0.0), (0.0, 0.0, 1.0))
    first = stack([(0, 0, 0)])
    several = first + lines_of(random_kspace(COILS, NY, NX), idx={"slice": 9}, directions=sagittal)
    moved = [*first[1:], Line(first[0].data, first[0].step1, idx=first[0].idx, position=(0, 9, 0), directions=AXIAL)]
    for lines, match in (
        (several, "several directions"),
        (stack([(0, 0, 0)], skew), "not at right angles"),
        (moved, "the lines of slice 3 differ in their position"),
        (stack([(0, float("nan"), 0)]), "position is not a place"),
        (stack([(0, 0, 1e30)]), "position is not a place"),
    ):
        with pytest.raises(ScanError, match=match):
            read_ismrmrd(write_mrd(tmp_path / "s.h5", XML, lines))
