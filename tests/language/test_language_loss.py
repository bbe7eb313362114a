"""The loss in pieces is the loss; Muon's matrices are nearly orthogonal; the schedule starts and ends as it says."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from language_support import tiny_language_model

from nirvana_mri.errors import UsageError
from nirvana_mri.language import loss as module
from nirvana_mri.language.loss import NextTokenLoss, next_token_loss, token_losses
from nirvana_mri.language.optimizer import make_optimizers, orthogonalised, schedule


@given(tokens=st.integers(1, 40), piece=st.integers(1, 16))
def test_the_loss_and_its_gradients_are_cross_entropy(tokens: int, piece: int) -> None:
    generator = torch.Generator().manual_seed(tokens)
    hidden = torch.randn(tokens, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    head = torch.randn(11, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 11, (tokens,), generator=generator)
    expected = F.cross_entropy(hidden @ head.T, labels)
    wanted = torch.autograd.grad(3 * expected, [hidden, head])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PIECE", piece)
        found = next_token_loss(hidden, head, labels)
        given_back = torch.autograd.grad(3 * found, [hidden, head])
        assert torch.allclose(token_losses(hidden, head, labels).mean().double(), expected, rtol=1e-5)
    assert torch.allclose(found, expected, rtol=1e-12)
    for one, other in zip(given_back, wanted, strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-14)


def test_the_learner_scores_the_next_token() -> None:
    model = tiny_language_model().double()
    ids = torch.randint(0, model.config.vocab_size, (2, 9))
    logits = model(input_ids=ids[:, :-1]).logits
    expected = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
    assert torch.allclose(NextTokenLoss(model)(ids[:, :-1], ids[:, 1:]), expected, rtol=1e-12)


@pytest.mark.parametrize("shape", [(32, 32), (96, 32), (16, 64)])
def test_orthogonalised_keeps_the_directions_and_evens_the_sizes(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    inside = u.T @ orthogonalised(matrix) @ v.T
    assert (inside - inside.diag().diag()).abs().max() < 1e-8
    assert inside.diag().min() > 0.5
    assert inside.diag().max() < 1.3


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_every_parameter_is_moved_by_exactly_one_optimiser(kind: str) -> None:
    model = tiny_language_model()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizers = make_optimizers(model, kind, 1e-3, 0.01)
    moved = [id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    assert sorted(moved) == sorted(id(parameter) for parameter in model.parameters())
    ids = torch.randint(3, model.config.vocab_size, (4, 20))
    NextTokenLoss(model)(ids[:, :-1], ids[:, 1:]).backward()
    for optimizer in optimizers:
        optimizer.step()
    unmoved = [name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])]
    assert unmoved == []


def test_beside_muon_tables_move_faster_than_gates_and_vectors() -> None:
    model = tiny_language_model(tie_word_embeddings=False)
    tables, vectors = make_optimizers(model, "muon", 0.1, 0.01)[1].param_groups
    assert [id(p) for p in tables["params"]] == [id(model.embedding.weight), id(model.head_weight)]
    assert (tables["lr"], vectors["lr"]) == pytest.approx((0.03, 0.01))
    gates = {id(p) for name, p in model.named_parameters() if "gate_attention" in name}
    assert gates
    assert gates <= {id(p) for p in vectors["params"]}


def test_an_unknown_optimiser_is_named() -> None:
    with pytest.raises(UsageError, match="'sgd'"):
        make_optimizers(tiny_language_model(), "sgd", 1e-3, 0)


def test_the_schedule_warms_up_and_falls() -> None:
    shares = [schedule(step, 100, 10, 0.1) for step in range(101)]
    assert shares[0] == pytest.approx(0.1)
    assert max(shares) == pytest.approx(1.0)
    assert shares[9] == pytest.approx(1.0)
    assert shares[100] == pytest.approx(0.1)
    assert shares[10:] == sorted(shares[10:], reverse=True)
