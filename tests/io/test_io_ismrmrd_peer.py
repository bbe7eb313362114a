"""Our reading beside Debian's ismrmrd-tools: the same picture from the same file."""

import shutil
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
from support import centred_ifft2

from nirvana_mri.io.ismrmrd.reader import read_ismrmrd

PROGRAMS = ("ismrmrd_generate_cartesian_shepp_logan", "ismrmrd_recon_cartesian_2d")

pytestmark = pytest.mark.skipif(
    any(shutil.which(program) is None for program in PROGRAMS),
    reason="the programs of Debian's ismrmrd-tools are not installed: apt-get install ismrmrd-tools",
)


def generate(path: Path, options: str) -> Path:
    subprocess.run([PROGRAMS[0], *options.split(), "-n", "0.02", "-o", path], check=True, capture_output=True)
    return path


@pytest.mark.parametrize(
    "options",
    [
        "-m 64 -c 1",
        "-m 64 -c 8",
        "-m 64 -c 12",
        "-m 64 -c 8 -a 2",
        "-m 64 -c 8 -a 2 -w 24",
        "-m 64 -c 8 -a 2 -w 24 -C",
        "-m 63 -c 3 -a 3 -w 12 -C",
        "-m 64 -c 4 -O 1",
        "-m 64 -c 4 -O 4 -C",
        "-m 33 -c 4 -k",
    ],
)
def test_zero_filled_equals_their_reconstruction(tmp_path: Path, options: str) -> None:
    path = generate(tmp_path / "scan.h5", options)
    subprocess.run([PROGRAMS[1], path], check=True, capture_output=True)
    with h5py.File(path) as file:
        theirs = file["dataset/cpp/data"][0, 0, 0].T  # theirs is (phase, readout)
    scan = read_ismrmrd(path)
    ours = np.sqrt((np.abs(centred_ifft2(scan.kspace[0])) ** 2).sum(axis=0))
    top, left = ((n - m) // 2 for n, m in zip(ours.shape, scan.crop, strict=True))
    ours = ours[top : top + scan.crop[0], left : left + scan.crop[1]]
    assert ours.shape == theirs.shape
    constant = (ours * theirs).sum() / (ours * ours).sum()
    assert np.linalg.norm(constant * ours - theirs) <= 1e-5 * np.linalg.norm(theirs)
    assert scan.fully_sampled
    assert (scan.noise is not None) == ("-C" in options)


def test_the_noise_line_has_the_level_that_was_asked_for(tmp_path: Path) -> None:
    scan = read_ismrmrd(generate(tmp_path / "scan.h5", "-m 256 -c 8 -C"))
    assert scan.noise is not None
    assert scan.noise.shape == (8, 512)
    assert scan.noise.real.std() == pytest.approx(0.02, rel=0.05)


def test_one_repetition_alone_is_undersampled(tmp_path: Path) -> None:
    path = generate(tmp_path / "scan.h5", "-m 64 -c 2 -a 2 -w 8")
    for volume in (0, 1):
        scan = read_ismrmrd(path, volume=volume)
        assert (scan.volumes, int(scan.acquired.sum())) == (2, 36)
        assert scan.acquired[28:36].all()
