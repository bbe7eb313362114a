"""A mask that does not say what was measured."""

import numpy as np
import torch

from nirvana_mri.eval.stress.bench import Level
from nirvana_mri.eval.stress.case import Case, Mask, Sampled
from nirvana_mri.eval.stress.criterion import loses_little
from nirvana_mri.eval.stress.stress import Stress
from nirvana_mri.physics.sampling import calibration_region

SHARE = 0.1  # of the measured lines (samples, where both axes are thinned)
EMPTY, UNCLAIMED, INVERTED = "empty lines claimed", "measured lines unclaimed", "inverted"


def wrong_mask(sampled: Sampled, level: Level, draw: np.random.Generator) -> Case:
    """The measured data with a mask that claims lines which hold zeros, leaves out measured ones, or is inverted.

    The target stays.
    """
    masks = {EMPTY: _claiming, UNCLAIMED: _silent, INVERTED: lambda sampled, draw: ~sampled.mask & sampled.acquired}
    mask = masks[str(level)](sampled, draw)
    known = torch.from_numpy(mask & sampled.mask)
    kspace = torch.where(known, sampled.kspace, torch.zeros((), dtype=sampled.kspace.dtype))
    return Case(kspace, mask, sampled.target)


def some_of(choice: Mask, count: int, draw: np.random.Generator) -> Mask:
    """A mask of at most ``count`` of the places that may be chosen."""
    places = np.flatnonzero(choice)
    taken = np.zeros(choice.size, bool)
    taken[draw.permutation(places)[:count]] = True
    return taken.reshape(choice.shape)


def _claiming(sampled: Sampled, draw: np.random.Generator) -> Mask:
    return sampled.mask | some_of(~sampled.mask & sampled.acquired, _count(sampled), draw)


def _silent(sampled: Sampled, draw: np.random.Generator) -> Mask:
    rows, columns = calibration_region(sampled.mask)
    outside = sampled.mask.copy()
    outside[columns if outside.ndim == 1 else (rows, columns)] = False
    return sampled.mask & ~some_of(outside, _count(sampled), draw)


def _count(sampled: Sampled) -> int:
    return max(1, round(SHARE * int(sampled.mask.sum())))


WRONG_MASK = Stress(
    title="A wrong mask",
    about="The mask claims a tenth more lines than were measured, which hold zeros; or keeps silent about a tenth of "
    "those that were (outside the calibration lines); or is inverted, so that the centre of k-space is missing and no "
    "coil map can be estimated. Zeros in the place of data cannot be told from data by any method here: what is asked "
    "is that the model stands it as well as CG-SENSE does, and that what cannot be reconstructed is refused.",
    source="Usage error: a mask of another scan, a header that counts padding as measured",
    unit="",
    levels=(EMPTY, UNCLAIMED, INVERTED),
    quick=(EMPTY, UNCLAIMED, INVERTED),
    criterion=loses_little(refusal=True),
    make=wrong_mask,
)
