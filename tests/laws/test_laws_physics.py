"""What every linear operator and every transform of the physics keeps, whatever its size."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nirvana_mri.physics.coils import combine, compress, compression_matrix, expand, rss, unit_norm
from nirvana_mri.physics.consistency import hard_consistency, weighted_consistency
from nirvana_mri.physics.fourier import fft1c, fft2c, ifft1c, ifft2c
from nirvana_mri.physics.sense import SenseOperator

SIZES = st.integers(1, 13)
COILS = st.integers(1, 5)
SEEDS = st.integers(0, 10_000)


@dataclass
class Draw:
    """A random setting: sizes and complex128 arrays of them, all from one seed."""

    coils: int
    ny: int
    nx: int
    seed: int

    def __post_init__(self):
        self.generator = torch.Generator().manual_seed(self.seed)
        self.maps = unit_norm(self.array(self.coils, self.ny, self.nx))

    def array(self, *shape, dtype=torch.complex128):
        return torch.randn(shape, generator=self.generator, dtype=dtype)

    def mask(self, *shape):
        return torch.rand(shape, generator=self.generator) < 0.4

    @property
    def image_shape(self):
        return (self.ny, self.nx)

    @property
    def data_shape(self):
        return (self.coils, self.ny, self.nx)


draws = st.builds(Draw, COILS, SIZES, SIZES, SEEDS)

TRANSFORMS = {
    "fft2c": (fft2c, ifft2c),
    "fft1c of columns": (fft1c, ifft1c),
    "fft1c of rows": (lambda x: fft1c(x, dim=-2), lambda x: ifft1c(x, dim=-2)),
}


def _sense(*mask_axes):
    def build(draw):
        operator = SenseOperator(draw.maps, draw.mask(*(getattr(draw, axis) for axis in mask_axes)))
        return operator.forward, operator.adjoint, draw.image_shape, draw.data_shape

    return build


def _sampling(draw):
    operator = SenseOperator(draw.maps, draw.mask(draw.ny, draw.nx))
    return operator.sample, operator.sample, draw.data_shape, draw.data_shape


def _normal(draw):
    operator = SenseOperator(draw.maps, draw.mask(draw.nx))
    return operator.normal, operator.normal, draw.image_shape, draw.image_shape


def _compression(draw):
    matrix = compression_matrix(draw.array(*draw.data_shape), energy=0.7)
    return (
        lambda x: compress(x, matrix),
        lambda y: compress(y, matrix.mH),
        draw.data_shape,
        (matrix.shape[0], *draw.image_shape),
    )


def _expansion(draw):
    return lambda x: expand(x, draw.maps), lambda y: combine(y, draw.maps), draw.image_shape, draw.data_shape


# name -> how to build (operator, adjoint, shape it takes, shape it gives); a new linear operator is a line here
OPERATORS = {
    **{name: lambda draw, pair=pair: (*pair, draw.data_shape, draw.data_shape) for name, pair in TRANSFORMS.items()},
    "coil expansion": _expansion,
    "coil compression": _compression,
    "sampling": _sampling,
    "SENSE, hybrid": _sense("nx"),
    "SENSE, general": _sense("ny", "nx"),
    "SENSE, normal": _normal,
}


def inner(u, v):
    return (u.conj() * v).sum()


@pytest.mark.parametrize("build", OPERATORS.values(), ids=OPERATORS)
@given(draw=draws)
def test_adjoint(build, draw):
    """⟨Au, v⟩ = ⟨u, Aᴴv⟩."""
    forward, adjoint, takes, gives = build(draw)
    u, v = draw.array(*takes), draw.array(*gives)
    torch.testing.assert_close(inner(forward(u), v), inner(u, adjoint(v)), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("build", OPERATORS.values(), ids=OPERATORS)
@given(draw=draws)
def test_linear(build, draw):
    forward, _, takes, _ = build(draw)
    u, v = draw.array(*takes), draw.array(*takes)
    torch.testing.assert_close(forward(2j * u - v), 2j * forward(u) - forward(v), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("build", OPERATORS.values(), ids=OPERATORS)
@given(draw=draws, exponent=st.integers(-60, 60))
def test_powers_of_two_change_no_bit(build, draw, exponent):
    forward, _, takes, _ = build(draw)
    u = draw.array(*takes).to(torch.complex128)
    assert torch.equal(forward(u * 2.0**exponent), forward(u) * 2.0**exponent)


@pytest.mark.parametrize("pair", TRANSFORMS.values(), ids=TRANSFORMS)
@given(draw=draws)
def test_transforms_are_unitary(pair, draw):
    forward, inverse = pair
    u = draw.array(*draw.data_shape)
    torch.testing.assert_close(inverse(forward(u)), u, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(forward(inverse(u)), u, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(forward(u).norm(), u.norm())


@given(draw=draws)
def test_fft2c_is_two_fft1c(draw):
    u = draw.array(*draw.data_shape)
    torch.testing.assert_close(fft1c(fft1c(u, dim=-1), dim=-2), fft2c(u), rtol=1e-10, atol=1e-10)


@given(draw=draws)
def test_hybrid_space_is_exact_for_column_masks(draw):
    """The readout transformed once: forward, adjoint and normal equal those of the general path."""
    columns = draw.mask(draw.nx)
    hybrid = SenseOperator(draw.maps, columns)
    general = SenseOperator(draw.maps, columns.expand(draw.ny, draw.nx))
    assert hybrid.hybrid
    assert not general.hybrid
    image, data = draw.array(*draw.image_shape), draw.array(*draw.data_shape)
    close = {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(fft1c(hybrid.forward(image), dim=-2), general.forward(image), **close)
    torch.testing.assert_close(hybrid.adjoint(ifft1c(data, dim=-2)), general.adjoint(data), **close)
    torch.testing.assert_close(hybrid.normal(image), general.normal(image), **close)


@given(draw=draws)
def test_hybrid_space_may_crop_the_readout(draw):
    """Rows of hybrid data do not know of each other, so that readout oversampling can be cut off at once."""
    columns = draw.mask(draw.nx)
    image = draw.array(*draw.image_shape)
    some = slice(draw.ny // 4, draw.ny // 4 + (draw.ny + 1) // 2)
    whole = SenseOperator(draw.maps, columns).forward(image)
    cut = SenseOperator(draw.maps[:, some], columns).forward(image[some])
    torch.testing.assert_close(cut, whole[:, some], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("columns", [True, False])
@given(draw=draws)
def test_what_was_not_measured_changes_no_bit(columns, draw):
    operator = SenseOperator(draw.maps, draw.mask(draw.nx) if columns else draw.mask(draw.ny, draw.nx))
    data = draw.array(*draw.data_shape)
    poison = torch.full_like(data, complex("nan+infj"))
    for other in (poison, -data, torch.zeros_like(data)):
        leaked = torch.where(operator.mask, data, other)
        assert torch.equal(operator.adjoint(data), operator.adjoint(leaked))
        assert torch.equal(
            torch.view_as_real(operator.sample(leaked)).signbit(), torch.view_as_real(operator.sample(data)).signbit()
        )


@pytest.mark.parametrize("columns", [True, False])
@given(draw=draws)
def test_hard_consistency_keeps_measured_samples_to_the_bit(columns, draw):
    operator = SenseOperator(draw.maps, draw.mask(draw.nx) if columns else draw.mask(draw.ny, draw.nx))
    measured, predicted = draw.array(*draw.data_shape), draw.array(*draw.data_shape)
    mask = operator.mask.expand(*draw.data_shape)
    poisoned = torch.where(mask, measured, torch.full_like(measured, complex("nan")))
    wrong = torch.where(mask, torch.full_like(predicted, complex("nan")), predicted)
    kept = hard_consistency(wrong, poisoned, operator)
    assert torch.equal(kept[mask], measured[mask])
    assert torch.equal(kept[~mask], predicted[~mask])


@given(draw=draws, weight=st.floats(0.05, 5))
def test_weighted_consistency_solves_its_equation(draw, weight):
    """(AᴴA + λ) x = Aᴴy + λ z, so no image is nearer to data and prior."""
    operator = SenseOperator(draw.maps, draw.mask(draw.nx))
    data, prior = operator.sample(draw.array(*draw.data_shape)), draw.array(*draw.image_shape)
    x = weighted_consistency(prior, operator.adjoint(data), operator, weight, steps=60)
    left = operator.normal(x) + weight * x
    torch.testing.assert_close(left, operator.adjoint(data) + weight * prior, rtol=1e-6, atol=1e-6)


@given(draw=draws, exponent=st.integers(-40, 40))
def test_weighted_consistency_follows_the_scale(draw, exponent):
    operator = SenseOperator(draw.maps, draw.mask(draw.nx))
    data, prior = operator.adjoint(draw.array(*draw.data_shape)), draw.array(*draw.image_shape)
    x = weighted_consistency(prior, data, operator, 0.3, steps=4)
    scaled = weighted_consistency(prior * 2.0**exponent, data * 2.0**exponent, operator, 0.3, steps=4)
    assert torch.equal(scaled, x * 2.0**exponent)


@given(draw=draws)
def test_rss_is_the_norm_over_coils_and_does_not_mind_mixing_them(draw):
    images = draw.array(*draw.data_shape)
    torch.testing.assert_close(rss(images), images.abs().square().sum(0).sqrt())
    unitary, _ = torch.linalg.qr(draw.array(draw.coils, draw.coils))
    torch.testing.assert_close(rss(compress(images, unitary)), rss(images))
    torch.testing.assert_close(rss(3 * images), 3 * rss(images))


@given(draw=draws)
def test_unit_norm_is_one_everywhere_even_where_there_is_nothing(draw):
    vectors = draw.array(*draw.data_shape)
    vectors[:, 0, 0] = 0
    vectors[:, -1, -1] *= 1e-200
    torch.testing.assert_close(rss(unit_norm(vectors)), torch.ones(draw.image_shape, dtype=torch.float64))


@pytest.mark.parametrize("pair", TRANSFORMS.values(), ids=TRANSFORMS)
def test_transforms_take_any_view(pair):
    """Conjugate, strided and permuted views, batches, gradients, float32 and float64."""
    forward, _ = pair
    base = torch.randn(2, 3, 6, 8, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    for view in (base.conj(), base.transpose(-1, -2), base[..., ::2, 1:], base[0], base.to(torch.complex128)):
        given_back = forward(view)
        assert given_back.dtype == view.dtype
        plain = view.clone(memory_format=torch.contiguous_format).resolve_conj()
        torch.testing.assert_close(given_back, forward(plain))
    with torch.inference_mode():
        forward(base)
    assert torch.autograd.gradcheck(forward, base[0, :1, :3, :4].to(torch.complex128).requires_grad_())


@given(ny=st.integers(1, 17), nx=st.integers(1, 17), seed=SEEDS)
def test_fft2c_equals_numpy_and_fastmri(ny, nx, seed):
    image = Draw(2, ny, nx, seed).array(2, ny, nx)
    axes = (-2, -1)
    shifted = np.fft.ifftshift(image.numpy(), axes=axes)
    expected = np.fft.fftshift(np.fft.fft2(shifted, norm="ortho"), axes=axes)
    np.testing.assert_allclose(fft2c(image).numpy(), expected, rtol=1e-10, atol=1e-12)
    fastmri = pytest.importorskip("fastmri.fftc")
    for ours, theirs in ((fft2c, fastmri.fft2c_new), (ifft2c, fastmri.ifft2c_new)):
        expected = torch.view_as_complex(theirs(torch.view_as_real(image)))
        torch.testing.assert_close(ours(image), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("n", [4, 5])
def test_zero_frequency_sits_at_half_the_length(n):
    """Also where an axis is halved to an odd number: the sign of the checkerboard depends on n // 2."""
    for m in (4, 5, 6, 7):
        kspace = fft2c(torch.ones(n, m, dtype=torch.complex128))
        expected = torch.zeros(n, m, dtype=torch.complex128)
        expected[n // 2, m // 2] = (n * m) ** 0.5
        torch.testing.assert_close(kspace, expected)
