"""Was k-space made from magnitudes? Then it is Hermitian: K(−k) is the conjugate of K(k), up to one phase per coil."""

import numpy as np
from jaxtyping import Complex
from numpy import ndarray as Array
from numpy.typing import NDArray

ROUNDING = 1e-6  # of the largest sample: below it float32 transforms leave anything
FEWEST_PAIRS = 64


def hermitian_coherence(kspace: Complex[Array, "coil ny nx"]) -> float | None:
    """How alike the phases of K(k) K(−k) are over all measured pairs: 1 for magnitudes; the median over the coils.

    Every pair counts alike, so that the many weak samples decide: noise, and the phase that fields and coils leave at
    edges, are Hermitian in no raw scan. None where too few pairs were measured to say.
    """
    values = [value for coil in kspace if (value := _coherence(coil)) is not None]
    return float(np.median(values)) if values else None


def _coherence(coil: Complex[Array, "ny nx"]) -> float | None:
    peak = np.abs(coil).max()
    if not peak > 0:
        return None
    scaled = coil / peak
    twin = scaled[np.ix_(*(_mirrored(n) for n in coil.shape))]
    usable = (np.abs(scaled) > ROUNDING) & (np.abs(twin) > ROUNDING)
    if usable.sum() < 2 * FEWEST_PAIRS:  # each pair is met twice
        return None
    product = scaled[usable] * twin[usable]
    return float(np.abs(np.mean(product / np.abs(product), dtype=np.complex128)))


def _mirrored(n: int) -> NDArray[np.intp]:
    """The index of −k for each k of an axis whose zero frequency is at n // 2."""
    return (2 * (n // 2) - np.arange(n)) % n
