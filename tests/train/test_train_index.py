"""The index of a data folder, and the split made from it: by patient, written down, refused where it leaks."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tiny import head, tiny_scan

from nirvana_mri.errors import DataError, ScanError
from nirvana_mri.io.fastmri import write_fastmri
from nirvana_mri.train import index as index_module
from nirvana_mri.train.index import Entry, Index, fingerprint, read_index
from nirvana_mri.train.manifest import Manifest, read_manifest, split


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    (data / "more").mkdir(parents=True)
    tiny_scan(64, 56, slices=2, out=data / "a.h5")
    tiny_scan(64, 56, slices=3, out=data / "more" / "b.h5")
    np.save(data / "c.npy", head(64, 56, 3))
    (data / "notes.txt").write_text("not data")
    return data


def names(index: Index) -> list[str]:
    return [entry.name for entry in index.entries]


def of_patient(path: Path, identity: str) -> None:
    with h5py.File(path, "a") as file:
        file.attrs["patient_id"] = identity


def test_it_says_what_each_file_holds(folder: Path) -> None:
    found = read_index(folder)
    assert names(found) == ["a", "c", "more/b"]
    a, c, b = found.entries
    assert (a.shape, a.crop, a.is_scan) == ((2, 4, 64, 56), (64, 56), True)
    assert (c.shape, c.is_scan) == ((3, 64, 56), False)
    assert b.shape[0] == 3
    assert len({each.patient for each in found.entries}) == len({each.fingerprint for each in found.entries}) == 3
    assert names(read_index(folder / "a.h5")) == ["a"]


def test_only_what_changed_is_looked_at_again(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "index.json"
    first = read_index(folder, cache)
    opened: list[str] = []
    original = index_module.open_scan
    monkeypatch.setattr(index_module, "open_scan", lambda path: opened.append(path.name) or original(path))
    assert read_index(folder, cache) == first
    assert opened == []
    tiny_scan(64, 56, slices=4, out=folder / "a.h5")
    assert read_index(folder, cache).entries[0].shape[0] == 4
    assert opened == ["a.h5"]
    os.utime(folder / "more" / "b.h5", ns=(1, 1))
    again = read_index(folder, cache)
    assert opened == ["a.h5", "b.h5"]
    assert [each.patient for each in again.entries] == [each.patient for each in first.entries]
    cache.write_text("{}")
    assert names(read_index(folder, cache)) == names(first)


def test_patients_are_told_apart_and_not_named(folder: Path, tmp_path: Path) -> None:
    of_patient(folder / "a.h5", "Doe^Jane 1970")
    of_patient(folder / "more" / "b.h5", "Doe^Jane 1970")
    for stem in ("sub-07_T1w", "sub-07_T2w", "sub-08_T1w"):
        np.save(folder / f"{stem}.npy", head(64, 56, 3) + len(stem) + stem.count("8"))
    cache = tmp_path / "index.json"
    found = {entry.name: entry.patient for entry in read_index(folder, cache).entries}
    assert found["a"] == found["more/b"]
    assert found["sub-07_T1w"] == found["sub-07_T2w"] != found["sub-08_T1w"]
    assert "Doe" not in cache.read_text()
    assert "1970" not in repr(found)
    other = {entry.name: entry.patient for entry in read_index(folder).entries}
    assert other["a"] == other["more/b"] != found["a"]


def test_a_bad_file_is_named_and_left_out_only_when_asked(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = (folder / "a.h5").read_bytes()
    (folder / "bad.h5").write_bytes(whole[: len(whole) // 2])
    full = tiny_scan()
    mask = np.arange(56) % 2 == 0
    under = np.where(mask, full.kspace[0], 0).astype(np.complex64)[None]
    write_fastmri(folder / "under.h5", under, mask=mask)
    with pytest.raises(ScanError, match=r"bad\.h5"):
        read_index(folder)
    found = read_index(folder, skip_bad=True)
    assert names(found) == ["a", "c", "more/b"]
    assert len(found.bad) == 2
    assert "no truth to train on" in found.bad[1]
    assert "2 of 5 files left out" in caplog.text


def test_what_cannot_be_indexed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to train on"):
        read_index(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        read_index(tmp_path / "nowhere")
    np.save(tmp_path / "a.npy", head(64, 56, 3))
    tiny_scan(64, 56, slices=2, out=tmp_path / "a.h5")
    with pytest.raises(DataError, match="differ in their suffix alone"):
        read_index(tmp_path)


@given(
    size=st.sampled_from([0, 1, 999, 1 << 16, (1 << 16) + 1, 1_500_000]), where=st.floats(0, 1), seed=st.integers(0, 9)
)
def test_fingerprints_see_size_and_blocks(tmp_path_factory: pytest.TempPathFactory, size, where, seed) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp("bytes")
    content = np.random.default_rng(seed).bytes(size)
    (folder / "a").write_bytes(content)
    (folder / "b").write_bytes(content)
    assert fingerprint(folder / "a") == fingerprint(folder / "b")
    (folder / "b").write_bytes(content + b"x")
    assert fingerprint(folder / "a") != fingerprint(folder / "b")
    if 0 < size <= 1 << 20:  # the blocks cover all of it
        place = min(size - 1, int(where * size))
        (folder / "b").write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert fingerprint(folder / "a") != fingerprint(folder / "b")


def entries(patients: list[int]) -> tuple[Entry, ...]:
    return tuple(
        Entry(f"f{n:03d}", f"f{n:03d}.h5", 1, 1, f"print {n}", f"patient {p}", (2, 4, 64, 56), (64, 56))
        for n, p in enumerate(patients)
    )


@given(patients=st.lists(st.integers(0, 8), min_size=1, max_size=30), seed=st.integers(0, 99), share=st.floats(0, 0.9))
@example(patients=[0, 1], seed=0, share=0.75)  # of which all would be held out, were none kept back
def test_a_patient_never_stands_on_both_sides(patients: list[int], seed: int, share: float) -> None:
    known = entries(patients)
    made = split(known, (), share, seed)
    by_name = {entry.name: entry.patient for entry in known}
    sides = [{by_name[name] for name in side} for side in (made.training, made.validation)]
    assert not sides[0] & sides[1]
    assert made.training.keys() | made.validation.keys() == by_name.keys()
    assert bool(made.validation) == (len(set(patients)) > 1 and share > 0)
    assert made == split(known, (), share, seed)
    assert made.sha256 == split(known[::-1], tuple(made.validation), 0, seed).sha256


def test_named_subjects_are_held_out_with_their_patient(folder: Path) -> None:
    known = entries([0, 1, 1, 2])
    assert list(split(known, ("f003",), 0.5, 0).validation) == ["f003"]
    with pytest.raises(DataError, match=r"f001 \(validation\) and f002 \(training\) are of one patient"):
        split(known, ("f001",), 0.5, 0)
    with pytest.raises(DataError, match="nobody"):
        split(known, ("nobody",), 0.5, 0)
    with pytest.raises(DataError, match="nothing is left"):
        split(known, tuple(entry.name for entry in known), 0, 0)


def test_copies_count_as_one_patient(folder: Path) -> None:
    shutil.copy(folder / "a.h5", folder / "z.h5")
    known = read_index(folder).entries
    for seed in range(6):
        made = split(known, (), 0.3, seed)
        assert ("a" in made.training) == ("z" in made.training)
    with pytest.raises(DataError, match=r"a \(training\) and z \(validation\)"):
        split(known, ("z",), 0, 0)


def test_a_manifest_comes_back_as_it_was_written(tmp_path: Path) -> None:
    known = entries([0, 1, 2, 3])
    made = split(known, ("f002",), 0, 0)
    made.write(tmp_path / "m.json")
    assert read_manifest(tmp_path / "m.json", known) == made
    lists = {"training": ["f000"], "validation": ["f001"], "test": ["f003", "elsewhere"]}
    (tmp_path / "m.json").write_text(json.dumps(lists))
    found = read_manifest(tmp_path / "m.json", known)
    assert found == Manifest({"f000": "print 0"}, {"f001": "print 1"}, {"f003": "print 3"})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("not json", "not JSON"),
        ("[1]", "expected an object"),
        ('{"training": [1]}', "expected an object"),
        ('{"training": 3}', "expected an object"),
        ('{"validation": ["f000"]}', "nobody is in training"),
        ('{"training": ["f009"]}', "f009"),
        ('{"training": {"f000": "other"}}', "bytes have changed"),
        ('{"training": ["f000", "f001"], "test": ["f001"]}', "f001 is in training and in test"),
        ('{"training": ["f000"], "test": ["f003"]}', r"f000 \(training\) and f003 \(test\) are of one patient"),
    ],
)
def test_a_manifest_that_cannot_hold_is_refused(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "m.json").write_text(content)
    with pytest.raises(DataError, match=says):
        read_manifest(tmp_path / "m.json", entries([0, 1, 2, 0]))
    with pytest.raises(DataError, match="no such manifest"):
        read_manifest(tmp_path / "none.json", entries([0]))


def test_what_changes_the_split_changes_its_hash() -> None:
    base = split(entries([0, 1, 2]), ("f001",), 0, 0)
    others: list[dict[str, Any]] = [{"validation": {}}, {"training": {"f000": "x"}}, {"test": {"f009": "y"}}]
    assert len({base.sha256, *(replace(base, **change).sha256 for change in others)}) == 4
