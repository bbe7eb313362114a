"""Pictures made various: other contrasts, sizes, turns and details, before k-space is simulated from them."""

import math

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from nirvana_mri.physics.ellipse import soft_ellipse
from nirvana_mri.physics.fourier import fft2c, ifft2c

SMALLEST = 112  # pixels a side
SHARPEST = 0.95  # most of a picture's k-space, a side, that is kept


def vary_picture(
    picture: np.ndarray,
    draw: np.random.Generator,
    largest: int,
    matrix: tuple[int, int] | None = None,
    spots: bool = True,
) -> Complex[Tensor, "my mx"]:
    """A varied copy of a magnitude picture, of order one, as complex64 ``[ny nx]`` with even sides of at most
    ``largest``, or of ``matrix`` where that is given.

    It is turned, flipped, recontrasted, shaded, sometimes strewn with sharp shapes, blemished with faint spots or
    crowned with a bright ring, set in a wider or tighter field of view, and at last low-passed to a smaller matrix by
    cutting its k-space, as a scanner does: truncation ringing included. Without ``spots`` nothing is put into the
    object that could be taken for a lesion.
    """
    turned = np.rot90(picture, int(draw.integers(4)) if draw.random() < 0.5 else 0)
    if draw.random() < 0.5:
        turned = np.flip(turned, int(draw.integers(2)))
    image = torch.from_numpy(np.ascontiguousarray(turned, dtype=np.float32))
    image = recontrast(image / image.max(), draw)
    if draw.random() < 0.35 and spots:
        image = strew(image, draw)
    if draw.random() < 0.5 and spots:
        image = blemish(image, draw)
    if draw.random() < 0.5:
        image = crown(image, draw)
    image = image * shading((image.shape[0], image.shape[1]), draw) * rim(image, draw)
    image = set_field_of_view(image, draw)
    return low_pass(image * turn(image, draw), draw, largest, matrix)


def recontrast(image: Float[Tensor, "ny nx"], draw: np.random.Generator) -> Float[Tensor, "ny nx"]:
    """A random monotone intensity curve; one in ten times the object's intensities are turned over."""
    if draw.random() < 0.1:
        inside = image > 0.08
        image = torch.where(inside, 1.05 - image, image)
    return image ** float(draw.uniform(0.6, 1.5))


def shading(shape: tuple[int, int], draw: np.random.Generator) -> Float[Tensor, "ny nx"]:
    """A slow multiplicative field, as uneven coils leave it."""
    coarse = torch.from_numpy(draw.normal(0, 0.35, (1, 1, 3, 3)).astype(np.float32))
    return torch.nn.functional.interpolate(coarse, size=shape, mode="bicubic", align_corners=True)[0, 0].exp()


def crown(image: Float[Tensor, "ny nx"], draw: np.random.Generator) -> Float[Tensor, "my mx"]:
    """A bright thin ring about the object, where there is air: skin and fat, whose ghosts are the worst of all."""
    y, x, margin = *_object_axes(image), int(0.16 * max(image.shape))
    padded = torch.nn.functional.pad(image, (margin,) * 4)
    step_y, step_x = float(y[1, 0] - y[0, 0]), float(x[0, 1] - x[0, 0])
    ny, nx = padded.shape
    y = float(y[0, 0]) + step_y * (torch.arange(ny) - margin)[:, None]
    x = float(x[0, 0]) + step_x * (torch.arange(nx) - margin)[None, :]
    power = float(draw.uniform(1.8, 2.6))
    radius = ((y / draw.uniform(1.0, 1.12)).abs() ** power + (x / draw.uniform(1.0, 1.12)).abs() ** power) ** (
        1 / power
    )
    inner, thick = draw.uniform(1.0, 1.1), draw.uniform(0.02, 0.09)
    ring = (radius > inner) & (radius < inner + thick) & (padded < 0.08)
    level = float(image[image > 0.1].mean()) * float(draw.uniform(0.5, 1.6))
    return torch.where(ring, level * shading((ny, nx), draw), padded)


def rim(image: Float[Tensor, "ny nx"], draw: np.random.Generator) -> Float[Tensor, "ny nx"]:
    """A gain that grows towards the object's edge, up to fourfold, as surface coils give it."""
    y, x = _object_axes(image)
    return 1 + float(draw.uniform(0, 3)) * (y**2 + x**2).clamp(0, 1.4) ** float(draw.uniform(1, 3))


def _object_axes(image: Float[Tensor, "ny nx"]) -> tuple[Float[Tensor, "ny 1"], Float[Tensor, "1 nx"]]:
    """Coordinates that run from −1 to 1 over the object's bounding box."""
    axes = []
    for dim in (1, 0):
        inside = torch.nonzero((image > 0.1).any(dim)).flatten()
        first, last = (int(inside[0]), int(inside[-1])) if len(inside) > 8 else (0, image.shape[1 - dim] - 1)
        axes.append((torch.arange(image.shape[1 - dim]) - (first + last) / 2) / ((last - first) / 2))
    return axes[0][:, None], axes[1][None, :]


def strew(image: Float[Tensor, "ny nx"], draw: np.random.Generator) -> Float[Tensor, "ny nx"]:
    """Sharp ellipses and thin bars added inside the object: detail that no training head has, lesions among it."""
    ny, nx = image.shape
    y, x = torch.meshgrid(torch.arange(ny), torch.arange(nx), indexing="ij")
    inside = image > 0.1
    for _ in range(int(draw.integers(2, 14))):
        angle, cy, cx = draw.uniform(0, np.pi), draw.uniform(0, ny), draw.uniform(0, nx)
        long, short = draw.uniform(2, 0.12 * ny), draw.uniform(0.6, 5)
        u = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
        v = (y - cy) * np.cos(angle) - (x - cx) * np.sin(angle)
        shape = ((u / long) ** 2 + (v / short) ** 2 < 1) & inside
        image = torch.where(shape, image * float(draw.uniform(0.2, 1.9)) + float(draw.uniform(0, 0.15)), image)
    return image.clamp(0, 1.5)


def blemish(image: Float[Tensor, "ny nx"], draw: np.random.Generator) -> Float[Tensor, "ny nx"]:
    """Small faint spots inside the object, as small lesions are: 3 to 50 % brighter or darker than what was there.

    A model that has seldom seen such spots takes what speaks for them for noise, and lowers their contrast.
    """
    shape = (image.shape[0], image.shape[1])
    inside = torch.nonzero(image > 0.1)
    for _ in range(int(draw.integers(4, 25)) if len(inside) else 0):
        row, column = (int(place) for place in inside[int(draw.integers(len(inside)))])
        radii = np.exp(draw.uniform(np.log(1.2), np.log(6), 2))  # pixels, of which low_pass leaves two thirds or so
        contrast = float(np.exp(draw.uniform(np.log(0.03), np.log(0.5)))) * (1 if draw.random() < 0.5 else -1)
        image = image * (1 + contrast * soft_ellipse(shape, (row, column), (float(radii[0]), float(radii[1]))))
    return image


def turn(image: Float[Tensor, "ny nx"], draw: np.random.Generator) -> Complex[Tensor, "ny nx"]:
    """A phase factor with what smooth fields lack: ripples of several sizes, fat off resonance, phase that follows
    tissue.

    A model that has only seen smooth phases takes images for nearly real ones, and fails on scanners' data.
    """
    phase = torch.zeros_like(image)
    for points, most in ((6, 1.0), (12, 0.6), (24, 0.35), (48, 0.2)):
        coarse = draw.normal(0, draw.uniform(0, most), (1, 1, points, points)).astype(np.float32)
        phase += torch.nn.functional.interpolate(torch.from_numpy(coarse), size=image.shape, mode="bicubic")[0, 0]
    if draw.random() < 0.7:
        bright = torch.sigmoid((image - float(draw.uniform(0.3, 1.0)) * float(image.max())) / 0.08)
        phase += float(draw.uniform(-2, 2)) * bright + float(draw.uniform(-1, 1)) * image
    return torch.polar(torch.ones_like(phase), phase)


def set_field_of_view(image: Float[Tensor, "ny nx"], draw: np.random.Generator) -> Float[Tensor, "my mx"]:
    """The object's bounding box with a random margin: wide, tight, or a little cut, off centre."""
    rows = torch.nonzero((image > 0.06).any(1)).flatten()
    columns = torch.nonzero((image > 0.06).any(0)).flatten()
    if len(rows) < 16 or len(columns) < 16:
        return image
    sides = []
    for first, last in ((int(rows[0]), int(rows[-1])), (int(columns[0]), int(columns[-1]))):
        extent = last - first + 1
        sides += [(int(draw.uniform(-0.03, 0.18) * extent), first), (int(draw.uniform(-0.03, 0.18) * extent), last)]
    (top, first_row), (bottom, last_row), (left, first_column), (right, last_column) = sides
    ny, nx = image.shape
    pads = (
        left - first_column, last_column + right + 1 - nx,
        top - first_row, last_row + bottom + 1 - ny,
    )  # fmt: skip
    return torch.nn.functional.pad(image, pads)


def low_pass(
    image: Complex[Tensor, "ny nx"], draw: np.random.Generator, largest: int, matrix: tuple[int, int] | None = None
) -> Complex[Tensor, "my mx"]:
    """The picture on a smaller, even matrix, by cutting its k-space.

    Cut deep: averaged, interpolated or zero-padded pictures have empty outer k-space, which no raw scan has, and a
    model would learn to leave it empty (Shimron 2022). A picture too small for ``matrix`` is first set in more air.
    """
    share = float(draw.uniform(0.6, SHARPEST))
    if matrix is not None:
        image = _set_in_air(image, (math.ceil(matrix[0] / SHARPEST), math.ceil(matrix[1] / SHARPEST)))
    sizes = []
    for n in image.shape:
        wanted = min(n * share * float(draw.uniform(0.92, 1.08)), largest, n)
        sizes.append(max(int(wanted), min(SMALLEST, n)) // 2 * 2)
    if matrix is not None:
        sizes = list(matrix)
    kspace = fft2c(image) * _treble((image.shape[0], image.shape[1]), draw)
    top, left = (n // 2 - m // 2 for n, m in zip(image.shape, sizes, strict=True))
    small = ifft2c(kspace[top : top + sizes[0], left : left + sizes[1]].contiguous())
    return small / small.abs().max()


def _set_in_air(image: Complex[Tensor, "ny nx"], least: tuple[int, int]) -> Complex[Tensor, "my mx"]:
    """The picture in the middle of a field of view of at least so many pixels."""
    air = [max(0, side - n) for side, n in zip(least, image.shape, strict=True)]
    top, left = (n // 2 for n in air)
    return torch.nn.functional.pad(image, (left, air[1] - left, top, air[0] - top))


def _treble(shape: tuple[int, int], draw: np.random.Generator) -> Float[Tensor, "ny nx"]:
    """A gain in k-space that rises with frequency, to make up for smooth pictures."""
    y, x = (torch.arange(n) / (n / 2) - 1 for n in shape)
    return 1 + float(draw.uniform(0, 2)) * (y[:, None] ** 2 + x[None, :] ** 2)
