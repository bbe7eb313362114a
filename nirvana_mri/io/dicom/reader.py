"""DICOM series (MR Image Storage, Enhanced MR, Siemens mosaics) → Picture, read one slice at a time.

What is read of a header is an allow-list (`dicom_tags`); no name, date, description or identifier of a person, place
or device is looked at, and file names inside a folder, which may hold a person's name, are never repeated: files are
numbered in the order of their names. The picture is called "dicom-series" with the series' number.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.io.dicom.elements import DicomError, DicomHeader, read_header, starts_like_dicom
from nirvana_mri.io.dicom.frames import MR_IMAGES, Frame, frames_of, what_it_is
from nirvana_mri.io.dicom.mosaic import is_mosaic, tiles_of
from nirvana_mri.io.dicom.pixels import DicomSlices
from nirvana_mri.io.dicom.series import Series, series_of
from nirvana_mri.scan import Picture

LARGEST_FOLDER = 20_000  # files
LARGEST_SERIES = 500_000  # images
LOOKED_AT = 32  # files of a folder, until one is DICOM
LISTED = 12


@dataclass(frozen=True, eq=False)
class _File:
    number: int  # in the order of names, from 1
    path: Path
    header: DicomHeader


def is_dicom(path: str | Path) -> bool:
    """True for a DICOM file, and for a folder where one of the first files is one."""
    path = Path(path)
    try:
        if path.is_file():
            return starts_like_dicom(path)
        if not path.is_dir():
            return False
        return any(starts_like_dicom(file) for file, _ in zip(_files_below(path), range(LOOKED_AT), strict=False))
    except (OSError, ValueError):
        return False


def read_dicom(path: str | Path, *, volume: int | None = None) -> Picture:
    """The volume in a folder (searched with its sub-folders), in a multi-frame file, or in the series of one file.

    A file of single frames stands for its whole series in that folder. Pixels are fetched slice by slice, rescaled as
    each header says (Philips' private second scale is not applied: values are those that a viewer shows). Phase, real
    and imaginary images and parameter maps beside magnitude images are left out with a warning. Volumes (image types,
    echoes, b-values, times, in this order) are opened one at a time.

    Raises: DataError, one line, for anything that is not one evenly spaced MR series; UsageError for a volume that
    is not there.
    """
    files, made, notes = _opened(Path(path))
    count = len(made.volumes)
    if volume is not None and not 0 <= volume < count:
        raise UsageError(f"{path}: volume {volume} is not there; choose one from 0 to {count - 1}")
    return _picture(Path(path), files, made, notes, volume or 0)


def read_dicom_volumes(path: str | Path) -> list[Picture]:
    """All volumes that `read_dicom` can open, the headers read once. Raises: as it does."""
    files, made, notes = _opened(Path(path))
    return [_picture(Path(path), files, made, notes, number) for number in range(len(made.volumes))]


def _opened(path: Path) -> tuple[list[_File], Series, tuple[str, ...]]:
    """The files of the series, its volumes, and what to warn of."""
    try:
        files, notes = _gathered(path)
        files = _one_series(files)
        frames: list[Frame] = []
        for file in files:
            frames += _of_file(file, len(files) > 1)
            if len(frames) > LARGEST_SERIES:
                raise DicomError(f"holds more than {LARGEST_SERIES} images; split it")
        made = series_of(frames)
    except DicomError as problem:
        raise DataError(f"{path}: {problem}") from None
    except (OSError, ValueError) as problem:
        raise DataError(f"{path}: cannot be read ({type(problem).__name__}); check the path and permissions") from None
    if any(file.header.elements.text("LossyImageCompression") == "01" for file in files):
        notes.append("the pixels were once compressed with loss")
    return files, made, (*notes, *made.warnings)


def _picture(path: Path, files: Sequence[_File], made: Series, notes: tuple[str, ...], volume: int) -> Picture:
    chosen = made.volumes[volume]
    number = files[0].header.elements.whole("SeriesNumber")
    return Picture(
        name=f"dicom-series-{number}" if 0 <= number <= 99_999 else "dicom-series",
        pixels=DicomSlices(path, tuple(frame.place for frame in chosen), (len(chosen), *chosen[0].shape)),
        geometry=made.geometry,
        metadata=dict(chosen[0].facts),
        warnings=notes,
        path=path,
        file_format="DICOM",
        volume=volume,
        volumes=len(made.volumes),
    )


def _gathered(path: Path) -> tuple[list[_File], list[str]]:
    """The headers of the images that ``path`` means, and what was left out."""
    if path.is_dir():
        return _folder(_files_below(path), None)
    if not path.is_file():
        raise DicomError("no such file or folder; check the path")
    if not starts_like_dicom(path):
        raise DicomError("does not start like DICOM; give a DICOM file, or a folder of them")
    asked = _File(1, path, _header(path, 0))
    if asked.header.elements.items.get("PerFrameFunctionalGroupsSequence") or not _is_image(asked.header):
        return [asked], []
    beside = (file for file in sorted(path.parent.iterdir()) if file.is_file())
    return _folder(beside, asked.header.elements.text("SeriesInstanceUID"))


def _folder(found: Iterator[Path], series: str | None) -> tuple[list[_File], list[str]]:
    """The images among files, of one series where that is given."""
    files, foreign, without, damaged = [], 0, 0, 0
    for number, path in enumerate(found, 1):
        if number > LARGEST_FOLDER:
            raise DicomError(f"more than {LARGEST_FOLDER} files; give a smaller folder")
        if not starts_like_dicom(path):
            foreign += 1
            continue
        try:
            header = _header(path, number)
        except DicomError:
            if series is None:
                raise
            damaged += 1  # of which series, it does not say
            continue
        if not _is_image(header):
            without += 1
        elif series is None or header.elements.text("SeriesInstanceUID") == series:
            files.append(_File(number, path, header))
    if not files:
        raise DicomError(f"holds no DICOM images ({foreign + without} other files); give the folder of a series")
    notes = [f"{damaged} damaged DICOM files in its folder were left out"] if damaged else []
    if series is None and foreign:
        notes.append(f"{foreign} files that are no DICOM were left out")
    if series is None and without:
        notes.append(f"{without} DICOM files without an image were left out")
    return files, notes


def _files_below(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            file = Path(root, name)
            if file.is_file():  # not a pipe, which would wait for ever
                yield file


def _header(path: Path, number: int) -> DicomHeader:
    where = f"file {number} in the order of names: " if number else ""
    try:
        return read_header(path)
    except DicomError as problem:
        raise DicomError(f"{where}{problem}; copy it again from its source") from None
    except struct.error:
        raise DicomError(f"{where}its header is damaged; copy it again from its source") from None


def _of_file(file: _File, several: bool) -> list[Frame]:
    """The images of one file, the tiles of a mosaic one by one."""
    try:
        frames = frames_of(file.path, file.header)
        if is_mosaic(file.header.elements):
            frames = [tile for frame in frames for tile in tiles_of(frame, file.header.elements)]
        return frames
    except DicomError as problem:
        raise DicomError(f"file {file.number} in the order of names {problem}" if several else str(problem)) from None


def _is_image(header: DicomHeader) -> bool:
    return header.pixels is not None or header.elements.whole("Rows") > 0 or not header.elements.values


def _one_series(files: Sequence[_File]) -> list[_File]:
    """All the files, where they are one series; refused with a list where not."""
    groups: dict[tuple[str, str], list[_File]] = {}
    for file in files:
        key = file.header.elements.text("SeriesInstanceUID"), file.header.elements.text("Modality")
        groups.setdefault(key, []).append(file)
    if len(groups) == 1:
        return list(files)
    lines = [_described(group) for group in list(groups.values())[:LISTED]]
    more = f"; and {len(groups) - LISTED} more" if len(groups) > LISTED else ""
    raise DicomError(
        f"holds {len(groups)} series, expected one: {'; '.join(lines)}{more}. "
        "Give a file of the one that is meant, or its own folder"
    )


def _described(files: Sequence[_File]) -> str:
    """A series in words without its texts: number of images, matrix, first file."""
    first = files[0].header
    sizes = Counter((f.header.elements.whole("Rows"), f.header.elements.whole("Columns")) for f in files)
    (rows, columns), _ = sizes.most_common(1)[0]
    images = sum(max(1, f.header.elements.whole("NumberOfFrames", 1)) for f in files)
    is_mr = first.elements.text("Modality") == "MR" and first.elements.text("SOPClassUID") in MR_IMAGES
    what = "" if is_mr else f" ({what_it_is(first)})"
    return f"{images} images of {rows} x {columns}{what}, from file {files[0].number} in the order of names"
