"""Slice by slice: the same voxels, read ahead, in little memory."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import tiny_model, tiny_scan

import nirvana_mri as nm
from nirvana_mri.errors import DataError, ScanError, UsageError
from nirvana_mri.io.fastmri import write_fastmri
from nirvana_mri.recon.pipeline import reconstruct_slices
from nirvana_mri.recon.stream import nothing, read_ahead, spooled
from nirvana_mri.volume import Volume

FASTER = {"method": "sense", "accelerate": 4, "center_fraction": 0.16}


class Watched:
    """Slices that tell when, and by which thread, they were fetched."""

    def __init__(self, count: int, broken: int | None = None) -> None:
        self.shape, self.broken = (count, 2, 4, 4), broken
        self.fetched: list[int] = []
        self.threads: set[str] = set()
        self.arrived = threading.Semaphore(0)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> np.ndarray:
        self.fetched.append(index)
        self.threads.add(threading.current_thread().name)
        self.arrived.release()
        if index == self.broken:
            raise ScanError(f"slice {index} is damaged")
        return np.full(self.shape[1:], index, np.complex64)


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


def test_the_next_slice_is_fetched_while_one_is_used_and_no_further() -> None:
    source = Watched(4)
    slices = read_ahead(source, [2, 0, 3, 1])
    assert source.fetched == []
    for done, wanted in enumerate([2, 0, 3, 1]):
        assert next(slices)[0, 0, 0] == wanted
        for _ in range(2 if done == 0 else 1 if done < 3 else 0):
            assert source.arrived.acquire(timeout=10), "the next slice was not asked for"
        assert source.fetched == [2, 0, 3, 1][: done + 2]
    assert next(slices, None) is None
    assert threading.current_thread().name not in source.threads
    assert readers() == []


def test_slices_may_be_kept() -> None:
    kept = list(read_ahead(Watched(5), range(5)))
    assert [int(samples.real.min()) for samples in kept] == [0, 1, 2, 3, 4]
    assert [int(samples.real.max()) for samples in kept] == [0, 1, 2, 3, 4]


def test_a_damaged_slice_is_an_error_when_its_turn_comes() -> None:
    slices = read_ahead(Watched(4, broken=2), range(4))
    assert next(slices) is not None
    assert next(slices) is not None
    with pytest.raises(ScanError, match="slice 2 is damaged"):
        next(slices)
    assert readers() == []


def test_leaving_early_leaves_no_thread() -> None:
    slices = read_ahead(Watched(9), range(9))
    next(slices)
    slices.close()
    assert readers() == []


@pytest.mark.parametrize("method", ["zero-filled", "sense", "nirvana"])
def test_the_stream_is_the_volume(tmp_path: Path, method: str) -> None:
    """From a file, read ahead; from memory, not: the same bytes."""
    held = tiny_scan(slices=3, out=None)
    tiny_scan(slices=3, out=tmp_path / "head.h5")
    scan = nm.open_scan(tmp_path / "head.h5")
    options: dict[str, Any] = FASTER | {"method": method, "slices": [2, 0]}
    head, pictures = reconstruct_slices(scan, tiny_model(), **options)
    stacked = np.stack(list(pictures))
    volume = nm.reconstruct(held, tiny_model(), **options)
    assert head.voxels.shape == volume.voxels.shape
    assert head.voxels.dtype == volume.voxels.dtype
    np.testing.assert_array_equal(stacked, volume.voxels)
    np.testing.assert_array_equal(head.affine, nm.reconstruct(scan, tiny_model(), **options).affine)
    assert head.slices == (2, 0)


def test_wrong_options_are_told_before_the_first_slice() -> None:
    with pytest.raises(UsageError, match="method is 'magic'"):
        reconstruct_slices(tiny_scan(), method="magic")


@pytest.mark.parametrize("crop", [(64, 56), (40, 30), (90, 80)])
@pytest.mark.parametrize("options", [{}, {"keep_phase": True}, {"combine": "sense"}])
def test_the_head_knows_the_size(crop: tuple[int, int], options: dict[str, Any]) -> None:
    head, pictures = reconstruct_slices(replace(tiny_scan(), crop=crop), **FASTER, **options)
    picture = next(pictures)
    assert head.voxels.shape == (1, *picture.shape)
    assert head.voxels.dtype == picture.dtype
    assert head.voxels.base is not None
    assert head.voxels.base.nbytes <= 8, "it takes no memory"


def made(shape: tuple[int, int, int] = (3, 4, 5)) -> Volume:
    return Volume(nothing(shape, np.float32), np.eye(4), np.ones(5, bool), {"method": "sense"})


def test_pictures_wait_on_disk_in_a_file_without_a_name(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).random((3, 4, 5), np.float32)
    volume = spooled(made(), (picture for picture in pictures), tmp_path / "new" / "out.h5")
    assert isinstance(volume.voxels, np.memmap)
    np.testing.assert_array_equal(volume.voxels, pictures)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line() -> None:
    """/dev/full cannot hold a folder; a file that cannot grow is what a full disk looks like."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    pictures = np.ones((3, 400, 500), np.float32)
    import signal

    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        with pytest.raises(DataError, match="cannot be written"):
            spooled(made((3, 400, 500)), iter(pictures), Path("out.h5"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


def test_what_a_slice_raises_reaches_the_caller(tmp_path: Path) -> None:
    def pictures() -> Iterator[np.ndarray]:
        yield np.zeros((4, 5), np.float32)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        spooled(made(), pictures(), tmp_path / "out.h5")
    assert list(tmp_path.iterdir()) == []


MEMORY = """
import sys
from pathlib import Path
from nirvana_mri.recon.batch import Recipe, run
from nirvana_mri.recon.jobs import plan

def memory(name):  # of this process's own; getrusage would count its parent's peak before exec
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name)) / 1024

def make(scan, out):
    for outcome in run(plan([Path(scan)], Path(out)), Recipe(method="sense", accelerate=4), redo=True):
        assert outcome.error is None, outcome.error

make(sys.argv[1], sys.argv[3])
idle = memory("VmHWM")
make(sys.argv[2], sys.argv[3])
print(memory("VmHWM") - idle)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux' /proc")
@pytest.mark.parametrize("out", ["out.h5", "out.nii.gz"])
def test_memory_does_not_grow_with_the_number_of_slices(tmp_path: Path, out: str) -> None:
    """Forty slices of 4 MB of k-space each, after three of the same kind: no more than their finished pictures."""
    few, many = tmp_path / "few.h5", tmp_path / "many.h5"
    rng = np.random.default_rng(0)
    kspace = rng.standard_normal((3, 8, 256, 256), np.float32).astype(np.complex64)
    write_fastmri(few, kspace, reference=np.zeros((3, 64, 64), np.float32))
    write_fastmri(many, np.tile(kspace, (14, 1, 1, 1)), reference=np.zeros((42, 64, 64), np.float32))
    del kspace
    words = [sys.executable, "-c", MEMORY, few, many, tmp_path / out]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 20  # MB, of 176 that the k-space has
