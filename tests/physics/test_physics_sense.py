import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nirvana_mri.physics.coils import unit_norm
from nirvana_mri.physics.sense import SenseOperator


@given(ny=st.integers(2, 9), nx=st.integers(2, 9), planar=st.booleans())
def test_normal_is_the_adjoint_after_the_forward(ny: int, nx: int, planar: bool) -> None:
    """Even sides take a path of their own, without the centring that cancels between the two."""
    draw = torch.Generator().manual_seed(0)
    maps = unit_norm(torch.randn(3, ny, nx, dtype=torch.complex128, generator=draw))
    mask = torch.rand((ny, nx) if planar else (nx,), generator=draw) < 0.6
    operator = SenseOperator(maps, mask)
    image = torch.randn(ny, nx, dtype=torch.complex128, generator=draw)
    torch.testing.assert_close(operator.normal(image), operator.adjoint(operator.forward(image)))


@pytest.mark.parametrize("nx", [6, 7])
def test_normal_does_not_look_at_the_signs_of_zeros(nx: int) -> None:
    maps = unit_norm(torch.randn(2, 4, nx, dtype=torch.complex64, generator=torch.Generator().manual_seed(1)))
    operator = SenseOperator(maps, torch.zeros(nx, dtype=torch.bool))
    image = torch.randn(4, nx, dtype=torch.complex64, generator=torch.Generator().manual_seed(2))
    assert torch.equal(operator.normal(image), torch.zeros(4, nx, dtype=torch.complex64))
