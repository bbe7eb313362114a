"""Bruker's raw data: a real FLASH of three slices, and what is refused."""

import shutil
from pathlib import Path

import pytest
from array_support import assert_looks_like, damaged, rss, survives

from nirvana_mri.errors import ScanError, UsageError
from nirvana_mri.io.bruker import is_bruker, read_bruker


@pytest.fixture
def tubes(shared_data: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "tubes"
    shutil.copytree(shared_data / "kspace" / "bruker_tubes1_100", folder, copy_function=shutil.copyfile)
    folder.chmod(0o755)
    return folder


def test_real_tubes(tubes: Path) -> None:
    for path in (tubes, tubes / "fid"):
        assert is_bruker(path)
        scan = read_bruker(path)
        assert scan.shape == (3, 1, 128, 128)
        assert scan.fully_sampled
    assert scan.geometry.voxel_mm == pytest.approx((1.0, 25 / 128, 25 / 128))
    for number, expected in enumerate(PICTURES):
        assert_looks_like(rss(scan, number), expected)
    with pytest.raises(UsageError, match="volume 1"):
        read_bruker(tubes, volume=1)


@pytest.mark.parametrize(
    ("part", "old", "new", "match"),
    [
        ("method", "PVM_SpatDimEnum=2D", "PVM_SpatDimEnum=3D", "PVM_SpatDimEnum is 3D"),
        ("acqp", "ACQ_rare_factor=1", "ACQ_rare_factor=8", "ACQ_rare_factor is 8"),
        ("acqp", "##$NR=1", "##$NR=5", "NR is 5"),
        ("acqp", "##$NI=3", "##$NI=4", "expected 4 whole numbers"),
        ("method", "-64 -63", "-64 -64", "do not fill k-space"),
        ("acqp", "GO_32BIT_SGN_INT", "GO_64BIT_CANARY", "expected GO_32BIT_SGN_INT"),
        ("method", "##$PVM_EncMatrix=( 2 )\n128 128", "##$PVM_EncMatrix=( 2 )\n256 128", "holds 393216 bytes"),
    ],
)
def test_what_is_more_than_plain_lines_is_refused(tubes: Path, part: str, old: str, new: str, match: str) -> None:
    text = (tubes / part).read_text("latin-1")
    assert old in text
    (tubes / part).write_text(text.replace(old, new), "latin-1")
    with pytest.raises(ScanError, match=match):
        read_bruker(tubes)


def test_other_folders_are_not_bruker(tmp_path: Path) -> None:
    assert not is_bruker(tmp_path)
    assert not is_bruker(tmp_path / "missing")


@pytest.mark.parametrize("part", ["acqp", "method"])
def test_damaged_parameters_are_read_or_refused(tubes: Path, part: str) -> None:
    data = (tubes / part).read_bytes()
    done = survives(tubes / part, damaged(data, [(0, len(data))], 40), lambda path: read_bruker(path.parent))
    assert sum(done) == 40


PICTURES = (  # seen once: seven tubes across, and two views along them
    "000000000001300001HEM21001KBCN1016RCDA10119VFE100007100000000000",
    "11H17N1111LKKT1112LNNV1112KLMT1112KLLS1113MPLT111248631111211211",
    "05P3211015VDDB3115VFHM4115SEGK3115REGH2115UFFD211234321001111000",
)
