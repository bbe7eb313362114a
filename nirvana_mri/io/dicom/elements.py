"""The few elements of a DICOM file that are read here, by an allow-list; every other value is stepped over unread.

A library that reads whole headers makes room for the lengths that they claim, follows nesting without end, and repeats
values in its warnings. This walk (PS3.5, sections 7 and 10) checks each length against the file, counts, and keeps
nothing that `dicom_tags.WANTED` does not list, so that nothing that names a person is ever in memory as a value.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass, field
from pathlib import Path

from nirvana_mri.io.dicom.tags import IMPLICIT, UNREAD, WANTED

PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
WIDE = {"SiemensCsa": 1 << 20}  # bytes, where the usual limit is too small
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
UNDEFINED = 0xFFFFFFFF
LONG_FORM = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
SHORT_FORM = {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL"}
SHORT_FORM |= {b"SS", b"ST", b"TM", b"UI", b"UL", b"US"}
BINARY = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "FL": "f", "FD": "d"}
IDENTIFIER = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+", re.ASCII)
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
# Nothing in the tree is like these: a number of bytes, of elements, of levels.
LARGEST_HEADER = 64 << 20
LARGEST_COUNT = 2_000_000
LARGEST_KEPT = 1_000_000  # values and items of sequences
LARGEST_DEPTH = 16
LARGEST_VALUE = 1 << 16


class DicomError(ValueError):
    """What is wrong with a file, in words without its contents or its name; the reader adds the path."""


@dataclass(frozen=True, slots=True)
class Elements:
    """Values by name, undecoded, and the items of sequences."""

    values: dict[str, tuple[str, bytes]] = field(default_factory=dict, repr=False)
    items: dict[str, list[Elements]] = field(default_factory=dict, repr=False)

    def texts(self, name: str) -> tuple[str, ...]:
        """The values of a text element without padding; none where it is absent or not text."""
        kind, value = self.values.get(name, ("", b""))
        if kind in BINARY or kind == "OB" or not value:
            return ()
        return tuple(part.strip(" \0") for part in value.decode("latin-1").split("\\"))

    def text(self, name: str) -> str:
        """The first value, or an empty text."""
        return next(iter(self.texts(name)), "")

    def numbers(self, name: str) -> tuple[float, ...]:
        """The values of a number element; none where it is absent, not finite, or anything but numbers."""
        kind, value = self.values.get(name, ("", b""))
        if kind in BINARY:
            size = struct.calcsize("<" + BINARY[kind])
            if len(value) % size:
                return ()
            found = tuple(float(n) for n in struct.unpack(f"<{len(value) // size}{BINARY[kind]}", value))
        else:
            texts = self.texts(name)
            if not all(NUMBER.fullmatch(text) for text in texts):
                return ()
            found = tuple(float(text) for text in texts)
        return found if all(map(math.isfinite, found)) else ()

    def number(self, name: str) -> float | None:
        """The first value, or None."""
        return next(iter(self.numbers(name)), None)

    def whole(self, name: str, default: int = -1) -> int:
        """The first value, where it is a whole number that a header can mean."""
        value = self.number(name)
        return int(value) if value is not None and value == int(value) and abs(value) < 1 << 40 else default

    def first(self, name: str) -> Elements:
        """The first item of a sequence; an empty one where there is none."""
        return next(iter(self.items.get(name, ())), Elements())


@dataclass(frozen=True)
class DicomHeader:
    """What stands before the pixels of one file. ``pixels``: tag, start and length of their value (None: fragments)."""

    elements: Elements
    syntax: str
    pixels: tuple[int, int, int | None] | None
    size: int


def starts_like_dicom(path: Path) -> bool:
    """True where the file has DICOM's preamble; False for anything else, or nothing."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_header(path: Path) -> DicomHeader:
    """The wanted elements of a file that starts like DICOM, up to its pixels.

    Raises: DicomError where its structure does not hold; OSError.
    """
    with path.open("rb") as file:
        size = path.stat().st_size
        budget = 1 << 16
        while True:
            file.seek(0)
            try:
                return _Walk(file.read(min(budget, size)), size).header()
            except _MoreNeeded as more:
                if more.end > min(size, LARGEST_HEADER):
                    raise DicomError(f"its header goes on past {LARGEST_HEADER >> 20} MiB") from None
                budget = min(max(budget * 8, more.end), LARGEST_HEADER)


class _MoreNeeded(Exception):
    def __init__(self, end: int) -> None:
        self.end = end


class _Walk:
    """One pass over the first bytes of a file of ``size`` bytes."""

    def __init__(self, data: bytes, size: int) -> None:
        self.data, self.size = data, size
        self.explicit = True
        self.count = self.kept = 0

    def header(self) -> DicomHeader:
        meta, position = Elements(), 132
        while position + 8 <= self.size and self._tag(position) >> 16 == 2:
            position = self._element(position, self.size, 0, meta)
        syntax = meta.text("TransferSyntaxUID")
        if not IDENTIFIER.fullmatch(syntax):
            raise DicomError("its header names no transfer syntax")
        elements = Elements()
        if syntax in UNREAD:
            return DicomHeader(elements, syntax, None, self.size)
        self.explicit = syntax != IMPLICIT
        while position + 8 <= self.size:
            tag = self._tag(position)
            if tag in PIXELS:
                _, start, length = self._head(position, tag)
                return DicomHeader(elements, syntax, (tag, start, None if length == UNDEFINED else length), self.size)
            position = self._element(position, self.size, 0, elements)
        return DicomHeader(elements, syntax, None, self.size)

    def _need(self, end: int) -> None:
        if end > len(self.data):
            if end > self.size:
                raise DicomError("it ends inside its header")
            raise _MoreNeeded(end)

    def _tag(self, position: int) -> int:
        self._need(position + 8)
        group, element = struct.unpack_from("<HH", self.data, position)
        return int(group) << 16 | int(element)

    def _head(self, position: int, tag: int) -> tuple[str, int, int]:
        """(type, where the value starts, its length) of the element at ``position``."""
        self.count += 1
        if self.count > LARGEST_COUNT:
            raise DicomError(f"its header has more than {LARGEST_COUNT} elements")
        if not self.explicit or tag >> 16 == 0xFFFE:
            return WANTED.get(tag, ("", "UN"))[1], position + 8, struct.unpack_from("<L", self.data, position + 4)[0]
        kind = self.data[position + 4 : position + 6]
        if kind in SHORT_FORM:
            return kind.decode(), position + 8, struct.unpack_from("<H", self.data, position + 6)[0]
        if kind not in LONG_FORM:
            raise DicomError("its elements are not laid out as its transfer syntax says")
        self._need(position + 12)
        return kind.decode(), position + 12, struct.unpack_from("<L", self.data, position + 8)[0]

    def _count_kept(self) -> None:
        self.kept += 1
        if self.kept > LARGEST_KEPT:
            raise DicomError(f"its header has more than {LARGEST_KEPT} values to keep")

    def _element(self, position: int, end: int, depth: int, into: Elements | None) -> int:
        """Step over one element, keeping it in ``into`` where it is wanted; returns where the next one starts."""
        tag = self._tag(position)
        kind, start, length = self._head(position, tag)
        name, wanted = WANTED.get(tag, ("", "")) if into is not None else ("", "")
        if length == UNDEFINED:
            items = into.items.setdefault(name, []) if into is not None and wanted == "SQ" else None
            if kind == "UN" and self.explicit:  # its items are implicit (PS3.5, 6.2.2 note 2)
                self.explicit = False
                position = self._sequence(start, end, depth, items)
                self.explicit = True
                return position
            return self._sequence(start, end, depth, items, raw=kind not in ("SQ", "UN"))
        after = start + length
        if after > end:
            raise DicomError("an element is longer than what holds it: cut short, or not in its transfer syntax")
        if into is not None and wanted == "SQ" and kind == "SQ":
            self._sequence(start, after, depth, into.items.setdefault(name, []))
        elif into is not None and wanted and wanted != "SQ" and kind != "SQ":
            if length > WIDE.get(name, LARGEST_VALUE):
                raise DicomError(f"a number or code in its header takes {length} bytes")
            self._need(after)
            self._count_kept()
            into.values[name] = (wanted if kind in ("UN", "OB", "OW") else kind, self.data[start:after])
        return after

    def _sequence(self, position: int, end: int, depth: int, keep: list[Elements] | None, raw: bool = False) -> int:
        """Step over items up to a delimiter or ``end``; ``raw`` items are bytes."""
        if depth >= LARGEST_DEPTH:
            raise DicomError(f"its sequences are nested more than {LARGEST_DEPTH} deep")
        while position < end:
            tag = self._tag(position)
            _, start, length = self._head(position, tag)
            if tag == SEQUENCE_END:
                return start
            if tag != ITEM or (raw and length == UNDEFINED) or (length != UNDEFINED and start + length > end):
                raise DicomError("a sequence in its header is damaged")
            item = None
            if keep is not None:
                item = Elements()
                keep.append(item)
                self._count_kept()
            if length == UNDEFINED:
                position = self._open_item(start, end, depth, item)
            else:
                position = start + length
                while item is not None and start < position:
                    start = self._element(start, position, depth + 1, item)
        return position

    def _open_item(self, position: int, end: int, depth: int, into: Elements | None) -> int:
        while position < end:
            if self._tag(position) == ITEM_END:
                return position + 8
            position = self._element(position, end, depth + 1, into)
        raise DicomError("a sequence in its header has no end")
