"""Writing a folder of DICOM files so that it is either whole or not there, and nobody else's files are lost."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info

from nirvana_mri.errors import UsageError

WRITER = "NIRVANA_MRI"  # ImplementationVersionName in the head of every file written here


@contextmanager
def atomic_folder(target: str | Path) -> Iterator[Path]:
    """A fresh folder beside ``target`` to write to; it takes the target's place when the block ends well.

    When the block raises, nothing is left behind and an older folder stays as it was. Raises: UsageError where the
    target is no folder, or holds anything but DICOM files that were written here: these are never deleted.
    """
    final = Path(target).resolve()
    check_folder(target)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{secrets.token_hex(8)}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        _replace(final, temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_folder(target: str | Path) -> None:
    """Nothing, where a series can be written to the folder ``target``; else UsageError."""
    final = Path(target).resolve()
    folder = next(place for place in final.parents if place.exists())
    if not folder.is_dir():
        raise UsageError(f"{target}: {folder} is a file, not a folder; choose another output path")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"{target}: no permission to write in {folder}; choose another folder")
    if not final.exists():
        return
    if not final.is_dir():
        raise UsageError(f"{target} is a file, and a DICOM series needs a folder; choose another output path")
    for path in sorted(final.iterdir()):
        if not is_ours(path):
            raise UsageError(
                f"{target} holds {'folders' if path.is_dir() else 'files'} that nirvana-mri did not write as DICOM, "
                "and they would be lost; choose a new folder"
            )


def is_ours(path: Path) -> bool:
    """True for a DICOM file that was written here."""
    if path.is_symlink() or not path.is_file():
        return False
    try:
        return str(read_file_meta_info(path).get("ImplementationVersionName", "")) == WRITER
    except (InvalidDicomError, OSError, EOFError, ValueError, KeyError, AttributeError, TypeError):
        return False


def _replace(final: Path, new: Path) -> None:
    """Put ``new`` in the place of ``final``, whose files go once it is there."""
    if not final.exists():
        os.rename(new, final)
        return
    old = final.with_name(f".{secrets.token_hex(8)}.old")
    os.rename(final, old)
    try:
        os.rename(new, final)
    except BaseException:
        os.rename(old, final)
        raise
    for path in sorted(old.iterdir()):
        if is_ours(path):
            path.unlink()
    if not any(old.iterdir()):
        old.rmdir()
