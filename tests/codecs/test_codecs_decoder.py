import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nirvana_mri.codecs import ImageDecoder, ImageDecoderConfig
from nirvana_mri.codecs.image_decoder import Measurement
from nirvana_mri.codecs.unet import ConditionalUNet
from nirvana_mri.errors import UsageError
from nirvana_mri.physics.coils import unit_norm
from nirvana_mri.physics.sense import SenseOperator


def _unet(seed: int = 0) -> ConditionalUNet:
    torch.manual_seed(seed)
    unet = ConditionalUNet(4, 2, (8, 12, 16), 6)
    torch.nn.init.normal_(unet.leave.weight, 0, 0.1)
    torch.nn.init.normal_(unet.modulate.weight, 0, 0.1)
    return unet


@given(ny=st.integers(4, 50), nx=st.integers(4, 50))
def test_unet_takes_any_size(ny: int, nx: int) -> None:
    tokens = torch.randn(1, 6, -(-ny // 16), -(-nx // 16))
    assert _unet()(torch.randn(1, 4, ny, nx), tokens).shape == (1, 2, ny, nx)


def test_unet_hears_each_token_at_its_own_place() -> None:
    unet = _unet()
    torch.nn.init.zeros_(
        unet.modulate.weight
    )  # the mean of all tokens reaches everywhere; without it only the place does
    picture, tokens = torch.randn(1, 4, 96, 96), torch.randn(1, 6, 6, 6)
    changed = tokens.clone()
    changed[0, :, 0, 5] += 3
    moved = (unet(picture, tokens) - unet(picture, changed)).abs().amax(dim=(0, 1))
    assert moved[:16, 80:].mean() > 0
    assert float(moved[64:, :32].max()) == 0


def test_a_fresh_unet_leaves_the_picture_as_it_is() -> None:
    assert torch.equal(
        ConditionalUNet(4, 2, (8, 12, 16), 6)(torch.randn(1, 4, 16, 16), torch.randn(1, 6, 1, 1)),
        torch.zeros(1, 2, 16, 16),
    )


def _measurement(ny: int = 24, nx: int = 20) -> tuple[torch.Tensor, Measurement]:
    torch.manual_seed(3)
    image = torch.randn(ny, nx, dtype=torch.complex64)
    operator = SenseOperator(unit_norm(torch.randn(4, ny, nx, dtype=torch.complex64)), torch.arange(nx) % 2 == 0)
    adjoint = operator.adjoint(operator.forward(image))
    return image, Measurement(operator, adjoint, torch.ones(ny, nx), 0.01)


def test_decoder_keeps_an_image_that_already_agrees_with_the_data() -> None:
    image, measurement = _measurement()
    decoder = ImageDecoder(ImageDecoderConfig(32, cascades=2, widths=(8, 12, 16), token_width=8))
    restored = decoder(image[None], torch.randn(1, 2, 2, 32), [measurement])
    torch.testing.assert_close(restored[0], image, rtol=1e-4, atol=1e-4)


def test_decoder_moves_any_image_towards_the_data() -> None:
    image, measurement = _measurement()
    decoder = ImageDecoder(ImageDecoderConfig(32, cascades=3, widths=(8, 12, 16), token_width=8))
    start = torch.zeros_like(image)
    restored = decoder(start[None], torch.randn(1, 2, 2, 32), [measurement])[0]
    operator = measurement.operator
    data = operator.forward(image)
    residual = [(operator.forward(x) - data).norm() / data.norm() for x in (start, restored)]
    assert residual[1] < 0.1 * residual[0]


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(UsageError, match="0 cascades"):
        ImageDecoderConfig(32, cascades=0)
