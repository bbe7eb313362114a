import pytest
import torch

from nirvana_mri.physics.coils import unit_norm
from nirvana_mri.physics.consistency import conjugate_gradient, weighted_consistency
from nirvana_mri.physics.sense import SenseOperator


def setting(coils=3, ny=8, nx=6):
    generator = torch.Generator().manual_seed(0)
    maps = unit_norm(torch.randn(coils, ny, nx, dtype=torch.complex128, generator=generator))
    operator = SenseOperator(maps, torch.arange(nx) % 2 == 0)
    image = torch.randn(ny, nx, dtype=torch.complex128, generator=generator)
    prior = torch.randn(ny, nx, dtype=torch.complex128, generator=generator)
    return operator, image, prior


def test_no_steps_or_a_heavy_prior_give_the_prior():
    operator, image, prior = setting()
    data = operator.normal(image)
    assert torch.equal(weighted_consistency(prior, data, operator, 1.0, steps=0), prior)
    torch.testing.assert_close(weighted_consistency(prior, data, operator, 1e9, steps=5), prior, rtol=1e-6, atol=1e-6)


def test_a_light_prior_gives_what_was_measured():
    operator, image, prior = setting()
    found = weighted_consistency(prior, operator.normal(image), operator, 1e-9, steps=200)
    torch.testing.assert_close(operator.forward(found), operator.forward(image), rtol=1e-5, atol=1e-5)


def test_a_solved_system_stays_solved_and_gives_no_nan():
    operator, _, _ = setting()
    nothing = torch.zeros(8, 6, dtype=torch.complex128)
    assert torch.equal(weighted_consistency(nothing, nothing, operator, 0.5, steps=4), nothing)
    solved = conjugate_gradient(
        lambda x: 2 * x, torch.ones(4, dtype=torch.complex64), torch.zeros(4, dtype=torch.complex64), 9
    )
    torch.testing.assert_close(solved, torch.full((4,), 0.5, dtype=torch.complex64))


def test_conjugate_gradients_solve_n_unknowns_in_n_steps():
    generator = torch.Generator().manual_seed(1)
    root = torch.randn(7, 7, dtype=torch.complex128, generator=generator)
    matrix = root @ root.mH + torch.eye(7)
    truth = torch.randn(7, dtype=torch.complex128, generator=generator)
    found = conjugate_gradient(lambda x: matrix @ x, matrix @ truth, torch.zeros_like(truth), 7)
    torch.testing.assert_close(found, truth, rtol=1e-6, atol=1e-6)


def test_tolerance_stops_early():
    calls = []

    def system(x):
        calls.append(1)
        return torch.arange(1, 51) * x

    conjugate_gradient(system, torch.ones(50, dtype=torch.complex128), torch.zeros(50, dtype=torch.complex128), 50, 0.1)
    assert len(calls) < 20


def test_differentiable_in_image_data_and_weight():
    operator, image, prior = setting(2, 3, 4)
    weight = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    data = operator.normal(image)
    assert torch.autograd.gradcheck(
        lambda z, y, w: weighted_consistency(z, y, operator, w, steps=3),
        (prior.requires_grad_(), data.requires_grad_(), weight),
    )


@pytest.mark.parametrize("weight", [0.01, 1.0])
def test_gradients_survive_a_system_that_is_solved_at_once(weight):
    operator, image, _ = setting(2, 3, 4)
    start = image.clone().requires_grad_()
    weighted_consistency(start, operator.normal(image), operator, weight, steps=4).abs().sum().backward()
    assert start.grad.isfinite().all()


def test_gradients_stay_finite_past_the_solution():
    """One coil and a plain mask leave two eigenvalues: solved in two steps, to rounding in a few more."""
    maps = torch.ones(1, 16, 12, dtype=torch.complex64)
    operator = SenseOperator(maps, torch.arange(12) % 2 == 0)
    generator = torch.Generator().manual_seed(0)
    data, image = (torch.randn(16, 12, dtype=torch.complex64, generator=generator) for _ in range(2))
    image.requires_grad_()
    weight = torch.tensor(0.3, requires_grad=True)
    kept = [weighted_consistency(image, data, operator, weight, steps) for steps in (2, 30)]
    torch.testing.assert_close(kept[0], kept[1], rtol=1e-5, atol=1e-5)
    found = [torch.autograd.grad(each.abs().sum(), (image, weight)) for each in kept]
    for short, long in zip(*found, strict=True):
        torch.testing.assert_close(short, long, rtol=1e-4, atol=1e-4)
