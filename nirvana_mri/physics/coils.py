"""Receive coils: combination and compression."""

import torch
from jaxtyping import Complex, Float
from torch import Tensor


def rss(coil_images: Complex[Tensor, "*batch coil ny nx"]) -> Float[Tensor, "*batch ny nx"]:
    """Root sum of squares over the coils: fastMRI's reference picture."""
    return torch.view_as_real(coil_images.resolve_conj()).square().sum(dim=(-4, -1)).sqrt()


def combine(
    coil_images: Complex[Tensor, "*batch coil ny nx"], maps: Complex[Tensor, "coil ny nx"]
) -> Complex[Tensor, "*batch ny nx"]:
    """One complex image from coil images, weighted by unit-norm maps (Roemer 1990, white noise): the adjoint of
    :func:`expand`.
    """
    return (maps.conj() * coil_images).sum(dim=-3)


def expand(
    image: Complex[Tensor, "*batch ny nx"], maps: Complex[Tensor, "coil ny nx"]
) -> Complex[Tensor, "*batch coil ny nx"]:
    """What each coil sees of an image."""
    return image.unsqueeze(-3) * maps


def adaptive_combine(coil_images: Complex[Tensor, "coil ny nx"], window: int = 7) -> Complex[Tensor, "ny nx"]:
    """Combine coil images by their local covariance (Walsh 2000), without maps or calibration lines.

    ``window`` is the side in pixels of the neighbourhood over which the covariance is averaged.
    """
    return combine(coil_images, walsh_maps(coil_images, window))


def walsh_maps(coil_images: Complex[Tensor, "coil ny nx"], window: int = 7) -> Complex[Tensor, "coil ny nx"]:
    """Unit-norm maps: the main eigenvector of the local coil covariance at each pixel."""
    coils = coil_images.shape[0]
    outer = coil_images.unsqueeze(1) * coil_images.conj().unsqueeze(0)
    planes = torch.view_as_real(outer).permute(0, 1, 4, 2, 3).flatten(0, 2).unsqueeze(0)
    smooth = torch.nn.functional.avg_pool2d(planes, window, stride=1, padding=window // 2, count_include_pad=False)
    covariance = torch.view_as_complex(
        smooth.reshape(coils, coils, 2, *coil_images.shape[1:]).permute(0, 1, 3, 4, 2).contiguous()
    )
    return power_iterate(covariance, coil_images, steps=12)


def power_iterate(
    matrices: Complex[Tensor, "coil coil ny nx"], start: Complex[Tensor, "coil ny nx"], steps: int
) -> Complex[Tensor, "coil ny nx"]:
    """Main eigenvector of a Hermitian matrix at every pixel; of unit length also where the matrix is zero."""
    vectors = unit_norm(start)
    for _ in range(steps):
        vectors = unit_norm(torch.einsum("cdyx,dyx->cyx", matrices, vectors))
    return vectors


def unit_norm(vectors: Complex[Tensor, "coil ny nx"]) -> Complex[Tensor, "coil ny nx"]:
    """Scale to unit length over the coils; equal weights where every coil is zero."""
    norm = rss(vectors)
    flat = torch.full_like(vectors, vectors.shape[0] ** -0.5)
    dead = norm <= torch.finfo(norm.dtype).tiny
    return torch.where(dead, flat, vectors / torch.where(dead, torch.ones_like(norm), norm))


def compression_matrix(
    calibration: Complex[Tensor, "coil ny nx"], energy: float = 0.995, most: int | None = None
) -> Complex[Tensor, "virtual coil"]:
    """Rows that mix coils into as few virtual coils as keep ``energy`` of the calibration region (Huang 2008).

    The rows are orthonormal, so white noise stays white with the same level. Their signs follow the data, not the
    eigen-solver: the calibration's sum over each virtual coil is real and positive.
    """
    coils = calibration.shape[0]
    samples = calibration.reshape(coils, -1)
    values, vectors = torch.linalg.eigh(samples @ samples.mH)
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
    kept = torch.cumsum(values, 0) / values.sum()
    count = min(int((kept < energy).sum()) + 1, coils, most or coils)
    rows = vectors[:, :count].mH
    biggest = rows.gather(1, rows.abs().argmax(1, keepdim=True))
    return rows * (biggest.conj() / biggest.abs())


def compress(kspace: Complex[Tensor, "coil ny nx"], matrix: Complex[Tensor, "virtual coil"]) -> Tensor:
    """Mix measured coils into virtual ones: complex ``[virtual, ny, nx]``. Holds in any space that is linear in
    k-space.
    """
    return (matrix @ kspace.reshape(kspace.shape[0], -1)).reshape(matrix.shape[0], *kspace.shape[1:])
