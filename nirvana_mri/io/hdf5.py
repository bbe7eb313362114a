"""Reading HDF5 that may be damaged or hostile.

HDF5 follows links into other files, maps raw bytes of other files into datasets, loads filter plugins, and lets
6 kB declare 28 TB. Nothing here does any of that: each is refused with one line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from nirvana_mri.errors import DataError, ScanError
from nirvana_mri.io.heap import RawError, read_string
from nirvana_mri.io.names import is_plain, numbered, type_words

# What h5py raises for a damaged file, by the library's own error class.
HDF5_ERRORS = (OSError, KeyError, ValueError, TypeError, RuntimeError, OverflowError, MemoryError)
BUILT_IN_FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 4: "szip", 5: "nbit", 6: "scaleoffset", 32000: "lzf"}
LARGEST_READ = 4 << 30  # bytes in one slice or one chunk
LARGEST_RATIO = 1000  # declared over stored bytes of compressed data; gzip ends near 1030
USUAL_UNPACKED, USUAL_RATIO = 1 << 27, 100  # bytes beyond which data must look measured: noise hardly packs
LARGEST_TEXT = 4 << 20
MOST_NAMES = 100
LONGEST_REASON = 300
QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")  # the library quotes names and paths
LARGEST_ATTRIBUTE = 1 << 16  # what HDF5 itself allows in an object header


def most_unpacked(stored: int) -> int:
    """How many bytes compressed data of ``stored`` bytes may stand for, before they count as a bomb."""
    return max(min(stored * LARGEST_RATIO, USUAL_UNPACKED), stored * USUAL_RATIO)


class SafeFile:
    """An HDF5 file opened for reading, whose datasets are checked before they are handed out.

    Whatever goes wrong inside becomes ``error`` (ScanError, or DataError for files that are not scans) with
    the path in front.
    """

    def __init__(self, path: str | Path, error: type[DataError] = ScanError) -> None:
        self.path = Path(path)
        self.error = error
        with self.reading("the file"):
            self.bytes_present = self.path.stat().st_size
            self.file = h5py.File(self.path, "r", locking="best-effort")

    def __enter__(self) -> SafeFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self.reading("the file"):
            self.file.close()

    def fail(self, message: str) -> DataError:
        """The error to raise, with the path in front."""
        return self.error(f"{self.path}: {message}")

    @contextmanager
    def reading(self, what: str) -> Iterator[None]:
        """Turn what h5py raises while reading ``what`` into this file's error."""
        try:
            yield
        except HDF5_ERRORS as problem:
            text = " ".join(QUOTED.sub("...", str(problem)).split())[:LONGEST_REASON]
            if "truncated file" in text:
                raise self.fail(f"the file is truncated ({text}); copy it again from its source") from None
            raise self.fail(f"{what} cannot be read ({text}); the file may be damaged, copy it again") from None

    def names(self) -> list[str]:
        """What the root of the file lists, at most 100 names."""
        with self.reading("the list of contents"):
            return [str(name) for name, _ in zip(self.file, range(MOST_NAMES), strict=False)]

    def said(self, name: str) -> str:
        """A name in the file as a message may repeat it."""
        first, slash, rest = name.partition("/")
        if all(is_plain(part) for part in (first, *rest.split("/")) if part):
            return name
        try:
            listed = [str(found) for found, _ in zip(self.file, range(MOST_NAMES), strict=False)]
        except HDF5_ERRORS:
            listed = []
        return numbered(listed).get(first, "a member") + (slash + rest if is_plain(rest) else "")

    def has(self, name: str) -> bool:
        """True where the root holds ``name``, wherever it leads."""
        with self.reading(self.said(name)):
            return bool(self.file.id.links.exists(name.encode()))

    def group_with(self, *members: str) -> str | None:
        """The first group of the root, reached by a hard link, that lists all ``members``; None without one."""
        for name in self.names():
            if "/" in name or not self._hard_link(name):
                continue
            with self.reading(self.said(name)):
                is_group = h5py.h5o.get_info(self.file.id, name.encode()).type == h5py.h5o.TYPE_GROUP
            if is_group and all(self._hard_link(f"{name}/{member}") is not None for member in members):
                return name
        return None

    def dataset(self, name: str) -> h5py.Dataset:
        """The dataset ``name`` of the root, or "group/name", after every check that needs no data."""
        where = self._resolve(name)
        with self.reading(self.said(name)):
            found = self.file[where]
        if not isinstance(found, h5py.Dataset):
            raise self.fail(f"{self.said(name)} is a {type(found).__name__.lower()}, expected a dataset")
        with self.reading(self.said(name)):
            self._check_storage(name, found)
        return found

    def array(self, name: str, largest: int) -> NDArray[Any]:
        """All of a small dataset: at most ``largest`` elements of a numeric type."""
        dataset = self.dataset(name)
        with self.reading(self.said(name)):
            if dataset.dtype.kind not in "biufc" or not 0 < math.prod(dataset.shape) <= largest:
                raise self.fail(
                    f"{self.said(name)} is {type_words(dataset.dtype)} {dataset.shape}, expected numbers, at most "
                    f"{largest} of them"
                )
            return np.asarray(dataset[()])

    def text(self, name: str) -> str:
        """The one string that dataset ``name`` holds."""
        dataset = self.dataset(name)
        with self.reading(self.said(name)):
            kind = h5py.check_string_dtype(dataset.dtype)
            if kind is None or math.prod(dataset.shape) != 1:
                raise self.fail(
                    f"{self.said(name)} is {type_words(dataset.dtype)} {dataset.shape}, expected one string"
                )
            if kind.length is None:
                value = self._string(name, dataset)
            elif kind.length <= LARGEST_TEXT:
                value = np.asarray(dataset[()], dtype=object).item()
            else:
                raise self.fail(f"{self.said(name)} claims text of {kind.length} bytes; copy it again from its source")
            text = value.decode() if isinstance(value, bytes) else str(value)
        return text.rstrip("\0")

    def has_attribute(self, name: str) -> bool:
        """True where the root has an attribute ``name``, whatever it holds."""
        with self.reading("the attributes"):
            return name in self.file.attrs

    def attribute(self, name: str, kinds: str) -> Any:
        """A small attribute of the root, or None where there is none of NumPy ``kinds`` ("O" for strings).

        HDF5 makes room for the length that a string claims, up to 4 GB, before it finds the string missing:
        so attributes of a kind that is not wanted are never read.
        """
        if not self.has_attribute(name):
            return None
        with self.reading(f"attribute {name}"):
            handle = self.file.attrs.get_id(name)
            is_text = h5py.check_string_dtype(handle.dtype) is not None
            kind = "O" if is_text else handle.dtype.kind
            if kind not in kinds or (kind == "O" and not is_text):
                return None
            if handle.get_storage_size() > LARGEST_ATTRIBUTE:
                raise self.fail(f"attribute {name} is larger than {LARGEST_ATTRIBUTE} bytes; write the file again")
            value = self.file.attrs[name]
            if isinstance(value, np.ndarray) and value.size == 1:
                value = value.reshape(-1)[0]
            if isinstance(value, bytes):
                value = value.decode()
        return value.item() if isinstance(value, np.generic) else value

    def _string(self, name: str, dataset: h5py.Dataset) -> bytes:
        """A string of variable length, looked up by our own reader of the heap."""
        offset = dataset.id.get_offset()
        if offset is None and dataset.chunks and not dataset.id.get_create_plist().get_nfilters():
            offset = dataset.id.get_chunk_info(0).byte_offset
        if offset is None or self.file.id.get_create_plist().get_sizes() != (8, 8):
            raise self.fail(
                f"{self.said(name)} keeps its text where no check reaches it; use h5repack -l CONTI -f NONE"
            )
        try:
            return read_string(self.path, offset, self.file.userblock_size, LARGEST_TEXT)
        except RawError as problem:
            said = self.said(name)
            raise self.fail(f"{said} claims text that the file cannot hold; copy it again from its source") from problem

    def _resolve_in_group(self, name: str) -> str:
        """``name`` ("group/dataset"), where each step is a hard link: nothing else is followed inside a group."""
        steps = name.split("/")
        for depth in range(1, len(steps) + 1):
            if self._hard_link("/".join(steps[:depth])) is not True:
                raise self.fail(f"{self.said(name)} is a link, which is not followed; copy the dataset into the file")
        return name

    def _hard_link(self, name: str) -> bool | None:
        """None where nothing has that name; all steps before the last must be known hard links."""
        with self.reading(self.said(name)):
            if not self.file.id.links.exists(name.encode()):
                return None
            return bool(self.file.id.links.get_info(name.encode()).type == h5py.h5l.TYPE_HARD)

    def _resolve(self, name: str) -> str:
        """Where ``name`` leads by hard links alone; soft links are followed one root name at a time."""
        if "/" in name:
            return self._resolve_in_group(name)
        target = name
        for _ in range(8):
            with self.reading(self.said(name)):
                if not self.file.id.links.exists(target.encode()):
                    raise self.fail(
                        f"{self.said(name)} is a link to nothing that is there; copy the dataset into the file"
                    )
                kind = self.file.id.links.get_info(target.encode()).type
            if kind == h5py.h5l.TYPE_HARD:
                return target
            if kind != h5py.h5l.TYPE_SOFT:
                said = self.said(name)
                raise self.fail(
                    f"{said} is a link to another file, which is not followed; copy the dataset into the file"
                )
            with self.reading(self.said(name)):
                target = self.file.id.links.get_val(target.encode()).decode().lstrip("/")
            if not target or "/" in target:
                raise self.fail(
                    f"{self.said(name)} is a link into a group, which is not followed; store the dataset at the root"
                )
        raise self.fail(f"{self.said(name)} is a chain of links without an end; copy the dataset into the file")

    def _check_storage(self, name: str, dataset: h5py.Dataset) -> None:
        """Refuse bytes that are elsewhere, missing, or packed beyond belief."""
        name = self.said(name)
        if dataset.is_virtual or dataset.external:
            raise self.fail(f"{name} keeps its data in other files, which are not followed; repack it with h5repack")
        if dataset.shape is None:
            raise self.fail(f"{name} is empty, expected data")
        filters = dataset.id.get_create_plist()
        numbers = [filters.get_filter(i)[0] for i in range(filters.get_nfilters())]
        foreign = [number for number in numbers if number not in BUILT_IN_FILTERS]
        if foreign:
            raise self.fail(
                f"{name} is packed with HDF5 filter {foreign[0]}, which is not built in; use h5repack -f GZIP=4"
            )
        declared = math.prod(dataset.shape) * dataset.dtype.itemsize  # not .nbytes, which wraps around
        stored = int(dataset.id.get_storage_size())
        allowed = most_unpacked(stored) if numbers else stored
        if declared > allowed or stored > self.bytes_present:
            raise self.fail(
                f"{name} declares {declared} bytes {dataset.shape} but the file holds "
                f"{min(stored, self.bytes_present)} of them; copy it again from its source"
            )
        offset = dataset.id.get_offset()
        if offset is not None and offset + stored > self.bytes_present:
            raise self.fail(f"{name} ends at byte {offset + stored} of {self.bytes_present}: truncated; copy it again")
        if dataset.chunks:
            chunk = math.prod(dataset.chunks) * dataset.dtype.itemsize
            if chunk > min(LARGEST_READ, max(most_unpacked(stored), 1)):
                raise self.fail(f"{name} has chunks of {chunk} bytes, expected at most {LARGEST_READ}; use h5repack")
