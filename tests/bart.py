"""BART as a peer to compare with. Tests and benchmarks import it as ``bart``."""

import os
import subprocess
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from support import read_cfl, write_cfl


class Bart:
    """BART's coil maps and reconstructions of one slice of k-space ``[coil, ny, nx]``, zero where nothing was measured.

    ``maps`` are its ESPIRiT maps ``[coil, ny, nx]``, zero where its eigenvalue ``[ny, nx]`` is below ``crop``.
    """

    def __init__(
        self, folder: Path, kspace: NDArray[np.complex64], lines: int = 24, threads: int = 2, crop: float = 0.8
    ) -> None:
        self._folder, self._threads = folder, threads
        write_cfl(folder / "kspace", np.moveaxis(kspace, 0, -1)[None])  # 1 ny nx coil
        self._run("ecalib", "-m", "1", "-r", str(lines), "-c", str(crop), "kspace", "maps", "eigenvalue")

    @property
    def maps(self) -> NDArray[np.complex64]:
        return np.ascontiguousarray(np.moveaxis(self._read("maps").reshape((*self._plane, -1)), -1, 0))

    @property
    def eigenvalue(self) -> NDArray[np.float32]:
        return np.ascontiguousarray(self._read("eigenvalue").real.reshape(self._plane))

    def pics(self, options: str) -> NDArray[np.complex64]:
        """The image [ny, nx] that ``bart pics -S`` makes, on the scale of the k-space."""
        self._run("pics", "-S", *options.split(), "kspace", "maps", "image")
        return np.ascontiguousarray(self._read("image").reshape(self._plane))

    @property
    def _plane(self) -> tuple[int, int]:
        ny, nx = self._read("kspace").shape[1:3]
        return ny, nx

    def _read(self, name: str) -> NDArray[np.complex64]:
        return read_cfl(self._folder / name)

    def _run(self, *words: str) -> None:
        # Threads that wait by spinning make a run fifty times slower where the cores are shared.
        environment = os.environ | {"OMP_NUM_THREADS": str(self._threads), "OMP_WAIT_POLICY": "passive"}
        subprocess.run(["bart", *words], cwd=self._folder, env=environment, check=True, capture_output=True)
