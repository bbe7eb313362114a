"""The measurement: an image seen through coils, transformed, sampled (Pruessmann 1999)."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Complex
from torch import Tensor

from nirvana_mri.physics.coils import combine, expand
from nirvana_mri.physics.fourier import centring_signs, fft1c, fft2c, ifft1c, ifft2c


@dataclass(frozen=True, eq=False)
class SenseOperator:
    """Linear map from a complex image ``[ny nx]`` to measured data ``[coil ny nx]``, zero where nothing was measured.

    ``mask`` is True where measured. A mask ``[nx]`` says that every measured column has its whole readout: the data
    then live in hybrid space (rows are picture rows, columns are phase encodings) and one 1-D transform suffices. A
    mask ``[ny nx]`` is the general case, with data in k-space.
    """

    maps: Complex[Tensor, "coil ny nx"]
    mask: Bool[Tensor, "*mask"]

    @property
    def hybrid(self) -> bool:
        """True where the readout is already transformed."""
        return self.mask.ndim == 1

    def forward(self, image: Complex[Tensor, "*batch ny nx"]) -> Complex[Tensor, "*batch coil ny nx"]:
        """What the scanner would have measured of the image."""
        return self.sample(self.transform(expand(image, self.maps)))

    def adjoint(self, data: Complex[Tensor, "*batch coil ny nx"]) -> Complex[Tensor, "*batch ny nx"]:
        """The zero-filled, coil-combined image."""
        return combine(self.inverse_transform(self.sample(data)), self.maps)

    def normal(self, image: Complex[Tensor, "*batch ny nx"]) -> Complex[Tensor, "*batch ny nx"]:
        """The adjoint after the forward."""
        if self._signed is None:
            return self.adjoint(self.transform(expand(image, self.maps)))
        maps, conjugate = self._signed
        data = torch.fft.fftn(image.unsqueeze(-3) * maps, dim=self._transformed, norm="ortho")
        coil_images = torch.fft.ifftn(self.sample(data), dim=self._transformed, norm="ortho")
        return (conjugate * coil_images).sum(dim=-3)

    @property
    def _transformed(self) -> tuple[int, ...]:
        return (-1,) if self.hybrid else (-2, -1)

    @cached_property
    def _signed(self) -> tuple[Tensor, Tensor] | None:
        """Maps and their conjugates with the transform's centring in them: :meth:`normal` is what iterations repeat."""
        signs = centring_signs(self.maps, self._transformed)
        if signs is None:
            return None
        maps = self.maps * signs
        return maps, maps.conj().resolve_conj()

    def sample(self, data: Complex[Tensor, "*batch coil ny nx"]) -> Complex[Tensor, "*batch coil ny nx"]:
        """Zero what was not measured; by choice, never by product, so that no sign of it is left."""
        return torch.where(self.mask, data, torch.zeros((), dtype=data.dtype, device=data.device))

    def transform(self, coil_images: Tensor) -> Tensor:
        """Coil images to the space of the data."""
        return fft1c(coil_images) if self.hybrid else fft2c(coil_images)

    def inverse_transform(self, data: Tensor) -> Tensor:
        """Data to coil images."""
        return ifft1c(data) if self.hybrid else ifft2c(data)
