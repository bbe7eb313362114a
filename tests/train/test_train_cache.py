"""Scans kept in hybrid space: the same examples, a strip at a time, private, and made anew when damaged."""

import stat
import threading
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import head, tiny_model, tiny_scan

from nirvana_mri.errors import ScanError, UsageError
from nirvana_mri.io.fastmri import write_fastmri
from nirvana_mri.recon.checkpoint import save_checkpoint
from nirvana_mri.recon.hybrid import HybridSlice, hybrid_slice
from nirvana_mri.recon.open import open_scan
from nirvana_mri.train import TrainConfig
from nirvana_mri.train.cache import SUFFIX, HybridCache
from nirvana_mri.train.data import Example, Examples
from nirvana_mri.train.index import read_index
from nirvana_mri.train.loop import train
from nirvana_mri.train.subjects import Subject, subjects_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two scans whose readout is oversampled, one of another size, and a picture volume."""
    data = tmp_path / "data"
    data.mkdir()
    for seed, name in enumerate(("a", "b")):
        scan = tiny_scan(96, 80, slices=3, seed=seed)
        write_fastmri(data / f"{name}.h5", scan.kspace, voxel_mm=(3, 1, 1), crop=(70, 64), padding=(4, 78))
    tiny_scan(64, 56, slices=2, out=data / "c.h5", seed=3)
    np.save(data / "d.npy", head(96, 80, 3))
    return data


def subjects(folder: Path, cache: HybridCache | None = None) -> list[Subject]:
    index = read_index(folder)
    return subjects_of(index, [entry.name for entry in index.entries], cache)


def same(one: Example, two: Example) -> bool:
    """To the bit."""
    pairs = (
        (one.problem.data, two.problem.data),
        (one.problem.operator.maps, two.problem.operator.maps),
        (one.problem.operator.mask, two.problem.operator.mask),
        (one.problem.certainty, two.problem.certainty),
        (one.target, two.target),
    )
    plain = [(e.problem.noise, e.problem.scale, e.problem.crop, e.data_range, e.known) for e in (one, two)]
    return plain[0] == plain[1] and all(torch.equal(*pair) for pair in pairs)


def files(cache: Path) -> list[Path]:
    return sorted(cache.iterdir())


@pytest.mark.parametrize("batch", [1, 3])
def test_examples_are_the_same_to_the_bit(folder: Path, tmp_path: Path, batch: int) -> None:
    """All kinds of masks, also those of the whole plane, which read the scan itself; made, and then found."""
    cache = HybridCache(tmp_path / "cache")
    config = TrainConfig(folder, tmp_path / "out", rows=32, batch=batch)
    plain, kept = (Examples(subjects(folder, each), config) for each in (None, cache))
    kinds = set()
    for number in [*range(24), *range(12)]:
        wanted, found = plain[number], kept[number]
        assert same(wanted, found), number
        kinds.add(found.known.mask)
    assert len(kinds) >= 4
    assert "poisson" in kinds
    assert cache.size()[0] == 3


def test_a_training_run_ends_with_the_same_weights(folder: Path, tmp_path: Path) -> None:
    start = tmp_path / "start.safetensors"
    save_checkpoint(tiny_model(), start, covers={}, training={})
    config = TrainConfig(
        folder, tmp_path / "plain", max_steps=3, workers=0, start_from=str(start), rows=32, validate_every=3
    )
    kept = replace(config, out=tmp_path / "kept", cache=tmp_path / "cache")
    wanted, found = load_file(train(config)), load_file(train(kept))
    assert all(torch.equal(tensor, found[name]) for name, tensor in wanted.items())
    assert files(tmp_path / "cache")
    train(replace(kept, resume=True, max_steps=4, cache=None))  # where a run reads from may change


def test_only_the_owner_reads_it_and_no_name_is_in_it(folder: Path, tmp_path: Path) -> None:
    cache = HybridCache(tmp_path / "cache")
    subject = subjects(folder, cache)[0]
    subject.slice(0).hybrid()
    (path,) = files(cache.folder)
    assert path.name == f"{subject.entry.fingerprint}{SUFFIX}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert cache.size() == (1, path.stat().st_size)


def test_other_bytes_are_another_file(folder: Path, tmp_path: Path) -> None:
    cache = HybridCache(tmp_path / "cache")
    before = subjects(folder, cache)[0].slice(0).hybrid()
    with h5py.File(folder / "a.h5", "a") as file:
        file["kspace"][...] *= 2
    subject = subjects(folder, cache)[0]
    after = subject.cache.slice(open_scan(subject.path), subject.entry.fingerprint, 0)
    assert len(files(cache.folder)) == 2
    assert after.exponent == before.exponent + 1


@pytest.mark.parametrize("damage", ["cut", "empty", "version", "other scan", "longer"])
def test_what_is_damaged_or_of_another_version_is_made_anew(
    folder: Path, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    cache = HybridCache(tmp_path / "cache")
    subject, other = subjects(folder, cache)[:2]
    subject.slice(1).hybrid()
    path = files(cache.folder)[0]
    whole = path.read_bytes()
    other.slice(0).hybrid()
    bytes_of = {
        "cut": whole[:-4097],
        "empty": b"",
        "version": whole.replace(b"nirvana-hybrid/1", b"nirvana-hybrid/0"),
        "other scan": cache.folder.joinpath(f"{other.entry.fingerprint}{SUFFIX}").read_bytes(),
        "longer": whole + b"more",
    }
    path.write_bytes(bytes_of[damage])
    scan = open_scan(subject.path)
    wanted = hybrid_slice(scan.kspace[1], scan.acquired, scan.crop)
    np.testing.assert_array_equal(subject.slice(1).hybrid().data, wanted.data)
    assert path.read_bytes() == whole
    assert "made anew" in caplog.text


def test_several_may_make_one_file_at_once(folder: Path, tmp_path: Path) -> None:
    subject = subjects(folder, HybridCache(tmp_path / "cache"))[0]
    ready, found = threading.Barrier(4), []

    def read() -> None:
        ready.wait()
        found.append(subject.slice(2).hybrid())

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(np.array_equal(each.data, found[0].data) for each in found)
    assert len(files(tmp_path / "cache")) == 1


def test_workers_make_what_one_process_makes(folder: Path, tmp_path: Path) -> None:
    config = TrainConfig(folder, tmp_path / "out", rows=32)
    drawn = []
    for workers in (0, 2):
        cache = HybridCache(tmp_path / f"cache {workers}")
        examples = torch.utils.data.Subset(Examples(subjects(folder, cache), config), range(8))
        drawn.append(list(torch.utils.data.DataLoader(examples, batch_size=None, num_workers=workers)))
    assert all(same(one, two) for one, two in zip(*drawn, strict=True))
    one, two = ([path.read_bytes() for path in files(tmp_path / f"cache {workers}")] for workers in (0, 2))
    assert one == two


def test_a_slice_that_cannot_be_used_is_named_and_its_neighbours_are_kept(folder: Path, tmp_path: Path) -> None:
    with h5py.File(folder / "a.h5", "a") as file:
        file["kspace"][0, 0, 5, 40] = np.nan
    subject = subjects(folder, HybridCache(tmp_path / "cache"))[0]
    with pytest.raises(ScanError, match=r"a\.h5: slice 0 has NaN"):
        subject.slice(0).hybrid()
    kept = subject.slice(1).kept()
    assert isinstance(kept, HybridSlice)


def test_a_write_that_fails_leaves_nothing(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = HybridCache(tmp_path / "cache")

    def full(*words: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nirvana_mri.train.cache.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        subjects(folder, cache)[0].slice(0).hybrid()
    assert files(cache.folder) == []


def test_a_disk_without_room_is_refused_before_the_first_step(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = HybridCache(tmp_path / "not there" / "cache")
    entries = read_index(folder).entries
    room = [0]
    monkeypatch.setattr("shutil.disk_usage", lambda place: type("Usage", (), {"free": room[0]}))
    with pytest.raises(UsageError, match=r"cache of 3 scans needs 0\.0 GB"):
        cache.require_room(entries)
    for each in subjects(folder, cache)[:3]:
        each.slice(0).hybrid()
    cache.require_room(entries)  # all of it is there
    room[0] = cache.size()[1]
    for path in files(cache.folder):
        path.unlink()
    cache.require_room(entries)
    room[0] -= 1
    with pytest.raises(UsageError, match="choose another folder"):
        cache.require_room(entries)
