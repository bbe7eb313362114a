"""Volume: reconstructed voxels, where they lie, and how they were made. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

NOT_FOR_CLINICAL_USE = "not for clinical use"
SYNTHETIC = "synthetic k-space: from magnitude images"


@dataclass(frozen=True, eq=False)
class Volume:
    """A reconstruction.

    ``voxels`` is float32 magnitude ``[slice, ny, nx]`` (complex64 when the phase was asked for), on the
    intensity scale of the scan. ``affine`` takes (x, y, slice) indices to RAS mm. ``mask`` is the sampling
    that the reconstruction really used (True = measured), bool ``[nx]`` or ``[ny, nx]``. ``slices`` are the
    slice numbers in the scan. ``provenance`` is JSON-ready and always holds ``method``, ``model``,
    ``model_sha256``, ``sampling``, ``toolkit_version`` and ``notice``. ``maps`` are pictures ``[slice, ny, nx]`` of the
    slices that ``provenance["trust"]`` names, where trust was asked for: what was ``invented``, say.
    """

    voxels: NDArray[Any]
    affine: NDArray[np.float64]
    mask: NDArray[np.bool_]
    provenance: Mapping[str, Any]
    name: str = "volume"
    slices: tuple[int, ...] = ()
    orientation_known: bool = False
    warnings: tuple[str, ...] = field(default=())
    maps: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def magnitude(self) -> NDArray[np.float32]:
        """float32 ``[slice, ny, nx]``, whether or not the phase was kept."""
        return np.abs(self.voxels).astype(np.float32, copy=False)

    def __repr__(self) -> str:
        shape = "x".join(str(n) for n in self.voxels.shape)
        return f"Volume({shape}, {self.provenance.get('method', 'unknown method')}, {NOT_FOR_CLINICAL_USE})"
