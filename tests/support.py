"""Readers and writers that several tests share. Tests import it as ``support`` (pytest's pythonpath is tests/)."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Self

import numpy as np
from beartype import BeartypeConf, FrozenDict, beartype
from numpy.typing import NDArray

# beartype, as jaxtyping's hook applies it: to each method by itself, where Self has no class yet.
check_types = beartype(conf=BeartypeConf(is_pep484_tower=True, hint_overrides=FrozenDict({Self: object})))


def read_cfl(path: Path) -> NDArray[np.complex64]:
    """The array of a BART file pair, given with or without a suffix; axes in BART's order.

    BART's header names the dimensions in its second line; the data are column-major complex64.
    """
    header = path.with_suffix(".hdr").read_text().splitlines()
    dims = [int(n) for n in header[1].split()]
    return np.fromfile(path.with_suffix(".cfl"), dtype=np.complex64).reshape(dims, order="F")


def write_cfl(path: Path, array: NDArray[np.complex64]) -> None:
    """A BART file pair, axes in BART's order."""
    path.with_suffix(".hdr").write_text("# Dimensions\n" + " ".join(str(n) for n in array.shape) + "\n")
    array.astype(np.complex64).ravel(order="F").tofile(path.with_suffix(".cfl"))


def centred_ifft2(kspace: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """The image of k-space ``[... ny nx]``, by numpy alone: an oracle for the tests, orthonormal, centred at n // 2."""
    shifted = np.fft.ifftshift(kspace, axes=(-2, -1))
    return np.fft.fftshift(np.fft.ifft2(shifted, norm="ortho"), axes=(-2, -1)).astype(np.complex64)


def brain8(shared_data: Path) -> NDArray[np.complex64]:
    """The real, fully sampled 8-channel brain slice: ``[coil=8, ny=230, nx=180]``, zero frequency at n // 2."""
    bart = read_cfl(shared_data / "kspace" / "brain8_espirit_full.cfl")  # 1 ny nx coil 1
    return np.ascontiguousarray(np.moveaxis(bart[0, :, :, :, 0], -1, 0))


def write_brain8(shared_data: Path, path: Path) -> Path:
    """brain8 as a one-slice fastMRI file without a header; the target is the RSS of all coils, not cropped."""
    from nirvana_mri.io.fastmri import write_fastmri

    kspace = brain8(shared_data)[None]
    rss = np.sqrt((np.abs(centred_ifft2(kspace)) ** 2).sum(axis=1)).astype(np.float32)
    write_fastmri(path, kspace, reference=rss, attrs={"max": float(rss.max())})
    return path


def load_program(path: Path) -> ModuleType:
    """A program that lies outside the package, as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # where a dataclass looks for its own module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[path.stem]
    return module
