"""One slice, made ready: what every combined-image method is given, and how its image becomes a picture."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor

from nirvana_mri.errors import DataError, ScanError
from nirvana_mri.physics.coils import compress, compression_matrix, rss
from nirvana_mri.physics.espirit import estimate_maps
from nirvana_mri.physics.fourier import fft1c, ifft1c, ifft2c
from nirvana_mri.physics.noise import noise_energy
from nirvana_mri.physics.prewhiten import whiten, whitening_matrix
from nirvana_mri.physics.sampling import calibration_region
from nirvana_mri.physics.sense import SenseOperator
from nirvana_mri.scan import Scan

CALIBRATION_LINES = 32  # of a longer calibration region the central part is used: maps are smooth, time is not free
CALIBRATION_ENERGY = (
    0.999  # share of the calibration energy that virtual coils keep; 0.995 costs CG-SENSE 0.2 dB on a real head coil
)
MOST_VIRTUAL_COILS = 12


@dataclass(frozen=True, eq=False)
class SliceProblem:
    """Measured data of one slice, normalised, coil-compressed, with the maps that explain them.

    ``data`` is complex64 ``[coil ny nx]``: in hybrid space, the readout transformed and cropped to the picture, where
    the mask is by column only; else in k-space. ``certainty`` ``[ny nx]`` is the share of the signal that the maps
    explain (see :func:`estimate_maps`). ``noise`` is the noise energy of one pixel summed over all coils as measured,
    on the problem's own intensity scale; a picture times ``scale`` is on the scan's. ``brightness`` ``[ny nx]``, where
    coils were prewhitened, is the root sum of squares of the coils as measured over that of the whitened ones.
    ``noise_measured`` is False where the noise was only bounded, by what the samples themselves show.
    """

    data: Complex[Tensor, "coil ny nx"]
    operator: SenseOperator
    certainty: Float[Tensor, "ny nx"]
    calibration: tuple[int, int]
    noise: float
    coils: int
    scale: float
    crop: tuple[int, int]
    brightness: Float[Tensor, "ny nx"] | None = None
    noise_measured: bool = False

    @property
    def sigma(self) -> float:
        """Standard deviation of the complex noise in one sample of one coil, on the problem's scale."""
        return math.sqrt(self.noise / self.coils)

    def rows(self, top: int, count: int) -> "SliceProblem":
        """A strip of a problem in hybrid space: each row is a problem of its own, so nothing is approximated."""
        keep = slice(top, top + count)
        return replace(
            self,
            data=self.data[:, keep].contiguous(),
            operator=SenseOperator(self.operator.maps[:, keep].contiguous(), self.operator.mask),
            certainty=self.certainty[keep].contiguous(),
            brightness=None if self.brightness is None else self.brightness[keep].contiguous(),
            crop=(count, self.crop[1]),
        )

    def finish(self, image: Complex[Tensor, "ny nx"], combine: str = "rss") -> Tensor:
        """The picture on the scan's intensity scale, cropped: float ``[ny nx]``.

        ``rss`` adds the noise floor that a root sum of squares of noisy coils has and a combined image lacks, √(|x|² +
        (C−1)/C · noise energy), so that all methods are compared with fastMRI's target alike; ``sense`` does not. Of
        prewhitened coils, ``rss`` is on the brightness b of the coils as measured, √(b²|x|² + (C−b²)/C · noise energy),
        and ``sense`` on that of the whitened ones, which no mixing of the coils changes but by a factor.
        """
        picture = image.abs()
        if combine == "rss" and self.brightness is not None:
            squared = self.brightness.square()
            picture = (squared * picture.square() + self.noise * (1 - squared / self.coils).clamp_min(0)).sqrt()
        elif combine == "rss":
            floor = self.noise * (self.coils - 1) / self.coils
            picture = (picture.square() + floor).sqrt()
        return centre_crop(picture, self.crop) * self.scale

    def finish_complex(self, image: Complex[Tensor, "ny nx"]) -> Complex[Tensor, "rows columns"]:
        """The complex image on the scan's intensity scale, cropped, with no noise floor."""
        return centre_crop(image, self.crop) * self.scale


@dataclass(frozen=True, eq=False)
class Whitening:
    """``matrix`` mixes measured coils into coils with equal and independent noise, ``inverse`` back.

    ``energy`` is the noise energy of one sample summed over the coils, on the scan's scale: the same before and after,
    so that it serves a noise floor as well as it does the solvers.
    """

    matrix: Complex[Tensor, "coil coil"]
    inverse: Complex[Tensor, "coil coil"]
    energy: float


def whitening_of(scan: Scan, device: torch.device | str = "cpu") -> Whitening | None:
    """What whitens the coils of a scan; None where it holds no noise measurement, or one coil.

    Raises: ScanError for noise from which nothing can be told.
    """
    coils = scan.shape[1]
    if scan.noise is None or coils == 1:
        return None
    if scan.noise.ndim != 2 or len(scan.noise) != coils:
        raise ScanError(f"the noise measurement is {scan.noise.shape}, expected (coil, sample) of {coils} coils")
    noise = torch.from_numpy(scan.noise).to(torch.complex128)
    try:
        white = whitening_matrix(noise)
    except DataError as problem:
        raise ScanError(f"{problem}: --no-prewhiten (prewhiten=False) reconstructs without it") from problem
    level = float(torch.view_as_real(noise).square().sum()) / noise.numel()  # energy of a coil, on average
    matrix = white * math.sqrt(level)
    single = torch.complex64
    return Whitening(matrix.to(device, single), torch.linalg.inv(matrix).to(device, single), level * coils)


def prepare_slice(
    kspace: np.ndarray,
    mask: np.ndarray,
    crop: tuple[int, int],
    device: torch.device | str = "cpu",
    white: Whitening | None = None,
) -> SliceProblem:
    """Turn measured k-space complex64 ``[coil ny nx]`` into a problem that every method can solve.

    ``mask`` is bool ``[nx]`` or ``[ny nx]``, True where measured; nothing else of ``kspace`` is looked at. With
    ``white`` the coils are whitened before all else. Raises ScanError where no sample, only zeros, or no calibration
    region were measured.
    """
    raw, sampled, exponent = _measured(kspace, mask, device)
    if white is not None:
        raw = whiten(raw, white.matrix)
    rows, columns = calibration_region(mask)
    if sampled.ndim == 1:
        data, keep = to_hybrid(raw, crop[0])
        block = data[..., columns]
        block = fft1c(block, dim=-2) if block.numel() else block
    else:
        data, keep = raw, raw.shape[1]
        block = raw[:, rows, columns]
    require_calibration(block, mask)
    noise, measured = _noise(raw, sampled, exponent, white)
    crop = (min(crop[0], keep), min(crop[1], raw.shape[2]))
    problem = assemble(data, block, sampled, noise, exponent, (keep, raw.shape[2]), crop, white)
    return replace(problem, noise_measured=measured)


def assemble(
    data: Complex[Tensor, "coil rows nx"],
    calibration: Complex[Tensor, "coil ky kx"],
    mask: Bool[Tensor, "*mask"],
    noise: float,
    exponent: int,
    shape: tuple[int, int],
    crop: tuple[int, int],
    white: Whitening | None = None,
    rows: slice = slice(None),
) -> SliceProblem:
    """Compress the coils and estimate maps: the problem of a slice, or of a strip of its hybrid space.

    ``data`` holds the ``rows`` of a picture of ``shape`` (ny, nx), ``calibration`` the measured centre of its k-space,
    both divided by ``2**exponent``.
    """
    block = central(calibration)
    matrix = compression_matrix(block, CALIBRATION_ENERGY, MOST_VIRTUAL_COILS)
    maps, certainty = estimate_maps(compress(block, matrix), shape, rows)
    return SliceProblem(
        data=compress(data, matrix),
        operator=SenseOperator(maps, mask),
        certainty=certainty,
        calibration=(block.shape[1], block.shape[2]),
        noise=noise,
        coils=data.shape[0],
        scale=math.ldexp(1.0, exponent),
        crop=crop,
        brightness=None if white is None else rss(compress(maps, white.inverse @ matrix.mH)),
    )


def require_calibration(block: Tensor, mask: np.ndarray) -> None:
    """ScanError where the mask leaves no calibration region."""
    if not block.numel():
        raise ScanError(
            f"the mask {tuple(mask.shape)} leaves out the centre of k-space, from which coil maps are estimated; "
            "use a mask with calibration lines, or method zero-filled"
        )


def zero_filled(
    kspace: np.ndarray, mask: np.ndarray, crop: tuple[int, int], device: torch.device | str = "cpu"
) -> Float[Tensor, "ny nx"]:
    """The RSS picture of all coils, unmeasured samples zero: on the scan's scale, cropped. Needs no maps.

    Arguments and errors as for :func:`prepare_slice`, without the calibration region.
    """
    raw, sampled, exponent = _measured(kspace, mask, device)
    coil_images = ifft1c(to_hybrid(raw, crop[0])[0]) if sampled.ndim == 1 else ifft2c(raw)
    size = (min(crop[0], coil_images.shape[-2]), min(crop[1], coil_images.shape[-1]))
    return centre_crop(rss(coil_images), size) * math.ldexp(1.0, exponent)


def _measured(kspace: np.ndarray, mask: np.ndarray, device: torch.device | str) -> tuple[Tensor, Tensor, int]:
    """Measured samples (others zero) divided by a power of two, the mask, and that power.

    The division keeps every later square inside float32, and scaling a scan by two then changes no bit.
    """
    sampled = torch.from_numpy(np.ascontiguousarray(mask)).to(device)
    raw = torch.from_numpy(np.ascontiguousarray(kspace)).to(device)
    raw = torch.where(sampled, raw, torch.zeros((), dtype=raw.dtype, device=raw.device))
    exponent = exponent_of(float(torch.view_as_real(raw).abs().max()))
    return raw * math.ldexp(1.0, -exponent), sampled, exponent


def exponent_of(peak: float) -> int:
    """The power of two that a slice is divided by; ScanError where its largest measured sample cannot be one."""
    if not (0 < peak < math.inf):
        raise ScanError(f"largest measured sample is {peak}; expected a finite value above 0; is the mask inverted?")
    return math.frexp(peak)[1]


def _noise(raw: Tensor, sampled: Tensor, exponent: int, white: Whitening | None) -> tuple[float, bool]:
    """Noise energy of a sample, summed over the coils, and whether a noise measurement says so.

    What the samples themselves show holds signal too: it bounds what was measured, whose bandwidth may be another.
    """
    shown = noise_energy(raw, sampled)
    if white is None:
        return shown, False
    told = math.ldexp(white.energy, -2 * exponent)
    return min(shown, told), told <= shown


def to_hybrid(kspace: Tensor, rows: int) -> tuple[Tensor, int]:
    """Transform the readout and crop its oversampling: exact, because every measured column has its whole readout."""
    hybrid = ifft1c(kspace, dim=-2)
    keep = min(rows, hybrid.shape[-2])
    return centre_crop(hybrid, (keep, hybrid.shape[-1])).contiguous(), keep


def central(block: Tensor, dims: tuple[int, ...] = (-2, -1)) -> Tensor:
    """At most CALIBRATION_LINES a side about zero frequency at n // 2, which stays at n // 2."""
    for dim in dims:
        n = block.shape[dim]
        keep = min(n, CALIBRATION_LINES)
        block = block.narrow(dim, n // 2 - keep // 2, keep)
    return block


def centre_crop(picture: Tensor, shape: tuple[int, int]) -> Tensor:
    """The central ``shape`` of the last two axes, by fastMRI's rule: start at (n − c) // 2."""
    top, left = ((n - m) // 2 for n, m in zip(picture.shape[-2:], shape, strict=True))
    return picture[..., top : top + shape[0], left : left + shape[1]]
