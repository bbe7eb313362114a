"""Seeded ways to damage a file of any format, and a child process with limits to read it in.

Tests import it as ``fuzz_support``; scripts/fuzz.py runs thousands of cases with it.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import re
import resource
import select
import signal
import time
import traceback
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

SLICES = 6  # read of each volume
SECONDS, MEGABYTES = 5.0, 500  # a case may take, of a processor
PATIENCE = 6  # times as long by the clock: other work may go on beside it
EDGE = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40, 1 << 62, (1 << 64) - 1)
WORDS = (b"-1", b"0", b"1e309", b"nan", b"99999999999999999999", b"65536", b"1073741824", b"\xff\xfe", b"\0", b"../")


@dataclass(frozen=True)
class Sample:
    """Files by name, which of them is opened ("" for their folder), how, and which are damaged (default: all)."""

    name: str
    files: dict[str, bytes] = field(repr=False)
    opened: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    reader: str = "scan"
    damaged: tuple[str, ...] = ()


def damage(content: bytes, rng: random.Random) -> bytes:
    """A copy with a few bytes changed, cut, put in, taken out, or read as a length, an extreme one."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        if changed:
            rng.choice(MUTATORS)(changed, rng)
    return bytes(changed)


def _place(content: bytearray, rng: random.Random, width: int = 1) -> int:
    """Headers stand first: half of all damage goes there."""
    end = max(len(content) - width, 0)
    return rng.randint(0, min(end, rng.choice((512, 4096, 16384)))) if rng.random() < 0.6 else rng.randint(0, end)


def _flip(content: bytearray, rng: random.Random) -> None:
    content[_place(content, rng)] ^= 1 << rng.randrange(8)


def _set(content: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 4, 40))):
        content[_place(content, rng)] = rng.choice((0, 255, rng.randrange(256)))


def _cut(content: bytearray, rng: random.Random) -> None:
    del content[rng.choice((rng.randrange(len(content)), len(content) - rng.randrange(min(len(content), 64)))) :]


def _insert(content: bytearray, rng: random.Random) -> None:
    at = _place(content, rng)
    content[at:at] = rng.choice((rng.randbytes(rng.randint(1, 64)), bytes(rng.randint(1, 4096)), content[at : at + 64]))


def _remove(content: bytearray, rng: random.Random) -> None:
    at = _place(content, rng)
    del content[at : at + rng.choice((1, 4, 8, 128, 1024))]


def _length(content: bytearray, rng: random.Random) -> None:
    width = rng.choice((1, 2, 4, 8))
    at = _place(content, rng, width) // width * width if rng.random() < 0.7 else _place(content, rng, width)
    value = rng.choice(EDGE) if rng.random() < 0.7 else rng.getrandbits(8 * width)
    old = int.from_bytes(content[at : at + width], "little")
    value = rng.choice((value, old + 1, old - 1, old * 2, old << 8)) % (1 << 8 * width)
    content[at : at + width] = value.to_bytes(width, rng.choice(("little", "big")))


def _digits(content: bytearray, rng: random.Random) -> None:
    """Another number where text has one."""
    found = [match.span() for match in re.finditer(rb"-?[0-9.]{1,12}", bytes(content[: 1 << 17]))]
    if found:
        start, stop = rng.choice(found)
        content[start:stop] = rng.choice(WORDS)


def _swap(content: bytearray, rng: random.Random) -> None:
    width = rng.choice((4, 16, 256))
    one, other = _place(content, rng, width), _place(content, rng, width)
    content[one : one + width] = content[other : other + width]


MUTATORS = (_flip, _set, _set, _cut, _insert, _remove, _length, _length, _length, _digits, _swap)


def damaged_files(sample: Sample, rng: random.Random) -> dict[str, bytes]:
    """The files of a sample with one of them damaged, half the time beneath its packing."""
    files = dict(sample.files)
    chosen = rng.choice(sorted(sample.damaged or files))
    files[chosen] = _beneath(files[chosen], rng) if rng.random() < 0.5 else damage(files[chosen], rng)
    return files


def _beneath(content: bytes, rng: random.Random) -> bytes:
    if content.startswith(b"\x1f\x8b"):
        return gzip.compress(damage(gzip.decompress(content), rng), 1)
    if content.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {info.filename: (archive.read(info), info.compress_type) for info in archive.infolist()}
        chosen = rng.choice(sorted(members))
        members[chosen] = damage(members[chosen][0], rng), members[chosen][1]
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for name, (data, kind) in members.items():
                archive.writestr(zipfile.ZipInfo(name), data, kind)
        return packed.getvalue()
    return damage(content, rng)


def write_files(files: dict[str, bytes], folder: Path) -> None:
    """Exactly these files in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        if old.name not in files:
            old.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)


def exercise(sample: Sample, folder: Path) -> str:
    """Open the sample as it lies in ``folder``, read it, inspect it: the error's message, "" where it was read.

    Whatever is no NirvanaError comes out.
    """
    from nirvana_mri.errors import NirvanaError

    path = folder / sample.opened if sample.opened else folder
    try:
        READERS[sample.reader](path, sample.options)
    except NirvanaError as error:
        message = str(error)
        assert "\n" not in message, f"not one line: {message!r}"
        assert 0 < len(message) < 1500, f"{len(message)} characters: {message[:200]!r}"
        return message
    return ""


@dataclass(frozen=True, eq=False)
class First:
    """The first slices of a source: enough of a large one."""

    source: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self.source.shape[1:])

    def __len__(self) -> int:
        return min(len(self.source), SLICES)

    def __getitem__(self, index: int) -> Any:
        return self.source[range(len(self))[index]]


def _scan(path: Path, options: dict[str, Any]) -> None:
    from nirvana_mri.recon.open import open_scan
    from nirvana_mri.report.inspect import inspect

    scan = open_scan(path, **options)
    assert "Scan(" in repr(scan)
    for source in (scan.kspace, scan.reference or ()):
        for number in range(min(len(source), SLICES)):
            assert source[number].shape == source.shape[1:]
    few = replace(scan, kspace=First(scan.kspace), reference=scan.reference and First(scan.reference))
    json.dumps(inspect(few).as_dict(), allow_nan=False)


def _volume(path: Path, options: dict[str, Any]) -> None:
    from nirvana_mri.io.save import load_volume

    assert load_volume(path, **options).voxels.ndim == 3


def _mask(path: Path, options: dict[str, Any]) -> None:
    from nirvana_mri.io.mask_file import load_mask

    assert load_mask(path, **options).any()


def _reference(path: Path, options: dict[str, Any]) -> None:
    from nirvana_mri.io.writers.dicom_reference import read_reference

    read_reference(path, **options)


READERS: dict[str, Callable[[Path, dict[str, Any]], None]] = {
    "scan": _scan,
    "volume": _volume,
    "mask": _mask,
    "reference": _reference,
}


@dataclass(frozen=True)
class Verdict:
    """What became of one case: "read", "refused", or a fault: "raised", "crashed", "hung", "memory"."""

    kind: str
    said: str
    seconds: float
    megabytes: float

    @property
    def fault(self) -> bool:
        return self.kind not in ("read", "refused")


def in_child(read: Callable[[], str], seconds: float = SECONDS, megabytes: float = MEGABYTES) -> Verdict:
    """Run ``read`` in a forked child that is ended where it takes too long or grows too large."""
    began, before = time.monotonic(), _resident(os.getpid())
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receive)
        _answer(read, send)
    os.close(send)
    answer, kind = b"", ""
    while not kind:
        if select.select([receive], [], [], 0.02)[0]:
            part = os.read(receive, 1 << 16)
            answer += part
            if not part:
                break
        if _busy(child) > seconds or time.monotonic() - began > PATIENCE * seconds:
            kind = "hung"
        elif _resident(child) - before > 3 * megabytes:
            kind = "memory"
    if kind:
        os.kill(child, signal.SIGKILL)
    os.close(receive)
    _, status, used = os.wait4(child, 0)
    spent = used.ru_utime + used.ru_stime
    if kind or not answer:
        return Verdict(kind or "crashed", f"wait status {status}", spent, used.ru_maxrss / 1024 - before)
    said = json.loads(answer)
    kind = "memory" if said["megabytes"] > megabytes else said["kind"]
    return Verdict(kind, said["said"], spent, said["megabytes"])


def _answer(read: Callable[[], str], send: int) -> None:
    """In the child: its outcome to the pipe, and the end."""
    before = _resident(os.getpid())
    try:
        message = read()
        kind = "refused" if message else "read"
    except BaseException:  # noqa: BLE001 (any other end is the finding)
        kind, message = "raised", traceback.format_exc()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    os.write(send, json.dumps({"kind": kind, "said": message[-6000:], "megabytes": grown}).encode())
    os._exit(0)


def _busy(process: int) -> float:
    """Seconds of a processor; 0 for a process that has ended."""
    try:
        words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _resident(process: int) -> float:
    """Megabytes; 0 for a process that has ended."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * resource.getpagesize() / 2**20
