"""How codecs learn: every parameter by one optimiser, kernels of convolutions as the matrices that they are."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_model
from torch import Tensor, nn

from nirvana_mri.errors import UsageError
from nirvana_mri.language.optimizer import Muon
from nirvana_mri.train import TrainConfig
from nirvana_mri.train.config import RATES
from nirvana_mri.train.engine import parameters_of
from nirvana_mri.train.optimizer import ADAM_SHARE, codec_optimizers
from nirvana_mri.train.stages import trained_parameters

sides = st.integers(16, 40)


def moved(shape: tuple[int, ...], seed: int, rate: float) -> tuple[Tensor, Tensor]:
    """A random gradient of that shape, and what one step of Muon makes of zeros."""
    parameter = nn.Parameter(torch.zeros(shape))
    parameter.grad = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    Muon([parameter], lr=rate, like_adam=True).step()
    return parameter.grad, parameter.detach()


@pytest.mark.parametrize("kind", RATES)
def test_each_parameter_is_moved_by_one_optimizer(kind: str) -> None:
    parameters = trained_parameters(tiny_model(), "joint")
    optimizers = codec_optimizers(parameters, kind)
    assert sorted(map(id, parameters_of(optimizers))) == sorted(map(id, parameters))
    if kind == "muon":
        muon, adam = optimizers
        assert {len(p.shape) for p in parameters_of([muon])} == {2, 4}  # matrices and kernels
        assert {id(p) for p in parameters if p.ndim == 1} <= {id(p) for p in parameters_of([adam])}
        assert [group["share"] for each in optimizers for group in each.param_groups] == [1.0, ADAM_SHARE]


@given(rows=sides, columns=sides, seed=st.integers(0, 999))
def test_a_step_has_the_size_of_adams(rows: int, columns: int, seed: int) -> None:
    """Root mean square 0.2 of the rate, as far as singular values are near one; against the gradient."""
    gradient, step = moved((rows, columns), seed, 0.1)
    assert 0.6 * 0.02 <= float(step.square().mean().sqrt()) <= 1.25 * 0.02
    assert float((gradient * step).sum()) < 0


@given(out=sides, channels=st.integers(4, 9), seed=st.integers(0, 999))
def test_kernels_move_as_the_matrix_of_their_rows(out: int, channels: int, seed: int) -> None:
    _, kernel = moved((out, channels, 3, 3), seed, 0.1)
    _, matrix = moved((out, channels * 9), seed, 0.1)
    assert torch.equal(kernel.flatten(1), matrix)


def test_the_rate_follows_the_optimizer_unless_it_is_given(tmp_path: Path) -> None:
    for kind, rate in RATES.items():
        config = TrainConfig(tmp_path, tmp_path / "run", optimizer=kind)
        assert config.rate == config.recipe()["learning_rate"] == rate
    assert TrainConfig(tmp_path, tmp_path / "run", learning_rate=0.01).rate == 0.01
    with pytest.raises(UsageError, match="optimizer is 'sgd'; expected one of muon, adamw"):
        TrainConfig(tmp_path, tmp_path / "run", optimizer="sgd")
