"""Grey levels of a picture: eight bits' worth of them, or the 8x8 blocks of JPEG."""

import numpy as np
from jaxtyping import Float, Shaped
from numpy import ndarray as Array
from scipy.fft import dct

MOST_VALUES = 1 << 15  # more would fill the gaps between the levels of a fine scale
LEVEL_WIDTH = 1e-5  # of the largest value: float32 transforms blur a level by less
MOST_LEVELS = 256
FEWEST_LEVELS = 10
DRAWING = 64  # levels that a drawing may have at any spacing
SHARED = 16  # pixels that are not black for each level
BLOCK = 8
FLAT = 0.01  # of the largest value: blocks that vary less are background
SMALL = 2 / 255  # of the largest value: coefficients below it are what coarse quantisation makes zero
FEWEST_BLOCKS = 64


def grey_levels(values: Float[Array, "pixel"]) -> int | None:
    """How many levels the values of a picture take, where they are those of a coarse scale; else None.

    A coarse scale has at most 256 levels, either evenly spaced or more than a drawing of a few shapes has. At most
    ``MOST_VALUES`` values, evenly taken, are looked at.
    """
    taken = np.sort(values[:: max(-(-values.size // MOST_VALUES), 1)].astype(np.float64))
    if taken.size == 0 or not taken[-1] > 0:
        return None
    taken /= taken[-1]
    starts = np.flatnonzero(np.diff(taken, prepend=-1.0) > LEVEL_WIDTH)
    ends = np.append(starts[1:], taken.size) - 1
    if (taken[ends] - taken[starts]).max() > 4 * LEVEL_WIDTH or not FEWEST_LEVELS <= starts.size <= MOST_LEVELS:
        return None
    is_shared = (taken > LEVEL_WIDTH).sum() >= SHARED * starts.size  # a tiny picture has few values of any kind
    coarse = (starts.size > DRAWING and is_shared) or _is_even((taken[starts] + taken[ends]) / 2)
    return int(starts.size) if coarse else None


def _is_even(levels: Float[Array, "level"]) -> bool:
    """True where some step of at least 1/255 of their range has all levels at whole multiples."""
    places = (levels - levels[0]) / (levels[-1] - levels[0])
    steps = np.arange(levels.size - 1, MOST_LEVELS)[:, None]
    return bool((np.abs(places * steps - np.round(places * steps)).max(axis=1) < 0.02).any())


def block_score(picture: Float[Array, "ny nx"]) -> float:
    """By how many standard deviations one placing of an 8x8 grid beats those off both its axes: JPEG's own grid.

    In JPEG's blocks most coefficients of the cosine transform were rounded to zero (Fan & de Queiroz 2003); in blocks
    that straddle them they are not, and in a picture that never was JPEG no placing differs. 0 where the picture has
    too few blocks that are not background.
    """
    if not picture.max() > 0:
        return 0.0
    scaled = picture / picture.max()
    cosines = dct(np.eye(BLOCK), axis=0, norm="ortho")
    shares = np.full((BLOCK, BLOCK), np.nan)
    for y, x in np.ndindex(BLOCK, BLOCK):
        blocks = _blocks(scaled[y:, x:])
        if len(blocks) < FEWEST_BLOCKS:
            return 0.0
        shares[y, x] = (np.abs(cosines @ blocks @ cosines.T) < SMALL).mean()
    y, x = np.unravel_index(shares.argmax(), shares.shape)
    others = np.delete(np.delete(shares, y, axis=0), x, axis=1)
    return float((shares[y, x] - others.mean()) / max(others.std(), 1e-6))


def _blocks(picture: Float[Array, "ny nx"]) -> Shaped[Array, "block 8 8"]:
    ny, nx = (n // BLOCK * BLOCK for n in picture.shape)
    blocks = picture[:ny, :nx].reshape(ny // BLOCK, BLOCK, nx // BLOCK, BLOCK).swapaxes(1, 2).reshape(-1, BLOCK, BLOCK)
    return np.asarray(blocks[blocks.std(axis=(1, 2)) > FLAT])
