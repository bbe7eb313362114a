"""Writing a file so that it is either whole or not there."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nirvana_mri.errors import UsageError


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """A fresh path beside ``target`` to write to; it takes the target's place when the block ends well.

    The path does not exist yet and ends in ``.tmp`` (name the format where a library guesses it from the
    suffix). When the block raises, nothing is left behind and an older target stays as it was. A target that
    is a link is replaced where it points. Folders that are missing on the way are made.

    Raises: UsageError where the target cannot be a file: a folder, a device, a path through a file.
    """
    final = Path(target).resolve()
    check_target(final)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        yield temporary
        os.replace(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)


def check_target(target: str | Path) -> None:
    """Nothing, where ``target`` can be written as a file; else UsageError. Worth calling before long work."""
    target = Path(target)
    folder = next(place for place in target.resolve().parents if place.exists())
    if not folder.is_dir():
        raise UsageError(f"{target}: {folder} is a file, not a folder; choose another output path")
    if target.is_dir():
        raise UsageError(f"{target} is a folder; name a file inside it")
    if target.exists() and not target.is_file():
        raise UsageError(f"{target} is not a regular file; choose another output path")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"{target}: no permission to write in {folder}; choose another folder")


def same_file(first: str | Path, second: str | Path) -> bool:
    """True where both paths lead to one file (through links too), so that output would replace input."""
    first, second = Path(first), Path(second)
    if first.exists() and second.exists():
        return os.path.samefile(first, second)
    return first.resolve() == second.resolve()
