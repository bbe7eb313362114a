"""Inserted lesions of known place, falling contrast and size: how much of them survives, and can they be seen?"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Complex, Float
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter, uniform_filter
from torch import Tensor

from nirvana_mri.eval.stress.bench import Bench, Level, Measured, Values, scores
from nirvana_mri.eval.stress.case import Sampled, picture_of
from nirvana_mri.eval.stress.criterion import Criterion, Limits
from nirvana_mri.eval.stress.methods import NIRVANA, SENSE
from nirvana_mri.eval.stress.noise import white_noise
from nirvana_mri.eval.stress.stress import Stress
from nirvana_mri.physics.ellipse import soft_ellipse
from nirvana_mri.physics.fourier import fft2c, ifft2c

OBSERVATIONS = 6  # draws of noise for the detection index
ROOM = 12  # pixels a side that are looked at for an even place, the same for all sizes
TISSUE = 0.2  # of the brightest pixel: darker places are no tissue
KEPT, SEEN = "contrast_kept", "detectability"


def disc(shape: tuple[int, int], place: tuple[int, int], diameter: float) -> Float[Tensor, "ny nx"]:
    """1 inside a disc about ``place``, 0 outside, with a soft edge."""
    return soft_ellipse(shape, place, (diameter / 2, diameter / 2))


def with_lesion(
    kspace: Complex[Tensor, "coil ny nx"], place: tuple[int, int], diameter: float, contrast: float
) -> Complex[Tensor, "coil ny nx"]:
    """The scan with a disc at ``place`` brighter than what was there by a share ``contrast``.

    The disc multiplies the object before the coils see it, and coils multiply too: so it may multiply what they saw.
    """
    images = ifft2c(kspace)
    ny, nx = kspace.shape[1:]
    return kspace + fft2c(images * (contrast * disc((ny, nx), place, diameter)))


def even_place(picture: NDArray[np.float32]) -> tuple[int, int]:
    """The middle of the most even piece of tissue: least deviation over mean."""
    size = min(ROOM, min(picture.shape) // 4)
    mean = uniform_filter(picture.astype(np.float64), size)
    deviation = np.sqrt(np.maximum(uniform_filter(picture.astype(np.float64) ** 2, size) - mean**2, 0))
    tissue = minimum_filter(picture, size) > TISSUE * picture.max()
    border = np.ones_like(tissue)
    border[size:-size, size:-size] = False
    ratio = np.where(border, np.inf, deviation / np.maximum(mean, 1e-12 * picture.max()))
    usable = np.where(tissue, ratio, np.inf)
    best = usable if np.isfinite(usable).any() else np.where(maximum_filter(picture, size) > 0, ratio, np.inf)
    row, column = np.unravel_index(int(best.argmin()), best.shape)
    return int(row), int(column)


def inserted(bench: Bench, level: Level, draw: np.random.Generator) -> Measured:
    """What each method leaves of one lesion's contrast, and how well it can be told from none.

    Contrast kept: over the lesion, the change of the reconstruction by it over the change of the target. Detection
    index: d′ of a matched template over draws of noise of the scan's own level (added, the same with and without).
    """
    diameter, contrast = (float(each) for each in level)  # type: ignore[union-attr]
    sampled = bench.sampled
    place = even_place(sampled.target.numpy())
    lesion = _full_lesion(sampled, place, diameter, contrast)
    target = picture_of(lesion, sampled.crop)
    template = target - sampled.target
    support = _support(sampled, place, diameter)
    noises = [white_noise(sampled, draw) for _ in range(OBSERVATIONS)]
    values: Values = {}
    pictures: dict[str, Tensor] = {}
    for name, method in bench.methods.items():
        floor = bench.baseline[name].floor
        pictures[name] = method(lesion, sampled.mask).picture(sampled.crop, floor)
        left = pictures[name] - bench.baseline_pictures[name]
        kept = float(left[support].sum() / template[support].sum())
        index = _detection(bench, name, lesion, noises, template * support)
        values[name] = scores(target, pictures[name]) | {KEPT: kept, SEEN: index}
    details = {"diameter": diameter, "contrast": contrast, "row": place[0], "column": place[1]}
    return bench.measured(values, details, target, pictures)


def _full_lesion(sampled: Sampled, place: tuple[int, int], diameter: float, contrast: float) -> Tensor:
    """The lesion at a place of the cropped picture."""
    ny, nx = sampled.kspace.shape[1:]
    top, left = (ny - sampled.crop[0]) // 2, (nx - sampled.crop[1]) // 2
    return with_lesion(sampled.kspace, (place[0] + top, place[1] + left), diameter, contrast)


def _support(sampled: Sampled, place: tuple[int, int], diameter: float) -> Bool[Tensor, "my mx"]:
    return disc(sampled.crop, place, diameter) > 0.5


def _detection(bench: Bench, name: str, lesion: Tensor, noises: list[Tensor], template: Tensor) -> float | None:
    """d′: the mean response with the lesion less that without, over their deviation; None where nothing varies."""
    sampled, floor = bench.sampled, bench.baseline[name].floor
    responses: dict[str, list[float]] = {"with": [], "without": []}
    for number, noise in enumerate(noises):
        without = bench.keep(name, sampled.measured + noise, sampled.mask, ("without a lesion", number))
        having = bench.methods[name](lesion + noise, sampled.mask)
        for what, restored in (("with", having), ("without", without)):
            responses[what].append(float((restored.picture(sampled.crop, floor) * template).sum()))
    deviation = float(np.sqrt(np.mean([np.var(each, ddof=1) for each in responses.values()])))
    gap = float(np.mean(responses["with"]) - np.mean(responses["without"]))
    return gap / deviation if deviation > 0 else None


def _margin(values: Values, change: Values, limits: Limits) -> float:
    lost, usual = (abs(1 - values[name][KEPT]) for name in (NIRVANA, SENSE))
    return float(usual + limits["slack"] - lost)


def _levels(diameters: tuple[float, ...], contrasts: tuple[float, ...]) -> tuple[Level, ...]:
    return tuple((diameter, contrast) for diameter in diameters for contrast in contrasts)


LESIONS = Stress(
    title="Inserted lesions",
    about="A bright disc of known size and contrast is put into the most even piece of tissue, before the coils see "
    "it. Contrast kept is the change of the reconstruction by the lesion over the change of the target, over the disc: "
    "1 keeps all, less fades it, more exaggerates it. The detection index d′ is that of a matched template that must "
    "tell the picture with the lesion from the one without, over six draws of noise of the scan's own level; so few "
    "draws give it to within about a third. It knows the place and the shape, and a smooth picture serves it well: it "
    "bounds what noise alone lets be seen, and is not what a reader sees.",
    source="Antun et al. 2020, PNAS 117:30088 (small structural changes); Barrett and Myers 2004, Foundations of Image "
    "Science (template observers)",
    unit="pixels across, contrast to what was there",
    levels=_levels((3, 5, 8), (0.5, 0.2, 0.05)),
    quick=_levels((3, 8), (0.5, 0.05)),
    criterion=Criterion(
        "contrast kept differs from 1 by no more than CG-SENSE's does, plus 0.1", {"slack": 0.1}, _margin
    ),
    own=inserted,
    shows=("values", KEPT, "contrast kept"),
)
