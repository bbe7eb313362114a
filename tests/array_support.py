"""Pictures of real scans as a few characters, and damaged copies of files. Tests import it as ``array_support``."""

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.recon.pipeline import reconstruct
from nirvana_mri.scan import Scan

LEVELS = "0123456789ABCDEFGHIJKLMNOPQRSTUV"


def rss(scan: Scan, number: int = 0) -> NDArray[np.float32]:
    """The zero-filled picture of a slice, cropped."""
    return reconstruct(scan, method="zero-filled", slices=[number]).voxels[0]


def fingerprint(picture: NDArray[np.float32]) -> str:
    """64 characters: the mean of 8 x 8 blocks, in 32 levels of the largest."""
    blocks = [np.array_split(rows, 8, axis=1) for rows in np.array_split(picture, 8, axis=0)]
    means = np.array([[block.mean() for block in row] for row in blocks])
    return "".join(LEVELS[int(level)] for level in np.rint(31 * means / means.max()).ravel())


def assert_looks_like(picture: NDArray[np.float32], expected: str) -> None:
    """No block differs by more than a level, which rounding may do."""
    found = fingerprint(picture)
    far = max(abs(LEVELS.index(a) - LEVELS.index(b)) for a, b in zip(found, expected, strict=True))
    assert far <= 1, f"the picture is {found}, expected {expected}"


def damaged(data: bytes, regions: Sequence[tuple[int, int]], count: int, seed: int = 0) -> Iterator[bytes]:
    """Copies of ``data``, cut short or with bytes changed within ``regions``."""
    rng = random.Random(seed)
    for _ in range(count):
        copy = bytearray(data)
        if rng.random() < 0.2:
            yield bytes(copy[: rng.randrange(len(copy))])
            continue
        for _ in range(rng.choice((1, 1, 3, 10, 40))):
            low, high = rng.choice(regions)
            at = rng.randrange(low, min(high, len(copy)))
            copy[at] = rng.choice((0, 255, copy[at] ^ (1 << rng.randrange(8)), rng.randrange(256)))
        yield bytes(copy)


def survives(path: Path, copies: Iterator[bytes], read: Callable[[Path], Scan]) -> tuple[int, int]:
    """How many copies were read and how many refused; any error but one clear line propagates."""
    read_ones = refused = 0
    for copy in copies:
        path.write_bytes(copy)
        said = None
        try:
            read(path).kspace[0]
        except (DataError, UsageError) as problem:
            said = str(problem)
        if said is None:
            read_ones += 1
        else:
            assert "\n" not in said
            assert len(said) < 500
            refused += 1
    return read_ones, refused
