"""Parts of the model that can be left out or doubled, to see what they bring."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_config, tiny_model, tiny_scan

from nirvana_mri.errors import UsageError
from nirvana_mri.recon.checkpoint import load_model, save_checkpoint
from nirvana_mri.recon.model import NirvanaRecon
from nirvana_mri.recon.problem import SliceProblem, prepare_slice


@pytest.fixture(scope="module")
def problem() -> SliceProblem:
    scan = tiny_scan()
    mask = np.arange(56) % 3 == 0
    mask[22:34] = True
    return prepare_slice(scan.kspace[0], mask, scan.crop)


def changed(**changes: object) -> NirvanaRecon:
    """The tiny model's weights under another configuration."""
    model = NirvanaRecon(replace(tiny_config(), **changes))
    model.load_state_dict(tiny_model().state_dict())
    return model.eval()


@torch.no_grad()
def states(model: NirvanaRecon) -> torch.Tensor:
    torch.manual_seed(0)
    return model.states(torch.randn(1, 64, 64, dtype=torch.complex64), torch.rand(1, 64, 64))


def test_two_passes_let_the_first_patch_see_the_others() -> None:
    """In a causal model the first patch is blind to the last in one pass; in the second it has been read before."""
    torch.manual_seed(0)
    image, kspace = torch.randn(1, 64, 64, dtype=torch.complex64), torch.rand(1, 64, 64)
    for passes, sees in ((1, False), (2, True)):
        model = changed(passes=passes)
        tokens, grid = model.encoder(image, kspace)
        other = tokens.clone()
        other[:, -2] += 1.0  # the last patch, before the end mark
        found = []
        for each in (tokens, other):
            given = (each, grid)
            model.encoder.forward = lambda *_, given=given: given  # type: ignore[method-assign,misc]
            found.append(model.states(image, kspace)[0, 0, 0])
        assert bool((found[0] - found[1]).abs().max() > 1e-6) is sees
    one = changed(passes=1)
    assert torch.equal(states(one), states(tiny_model()))
    assert states(changed(passes=2)).shape == states(one).shape


def test_without_the_trigger_the_fast_weights_stay() -> None:
    model = changed(trigger=False)
    assert model.backbone is not None
    assert model.backbone.trigger is not None
    assert model.backbone.trigger.rate == 0
    assert not torch.equal(states(model), states(tiny_model()))
    config = replace(tiny_config(), lm=replace(tiny_config().lm, trigger_rate=0.0))
    other = NirvanaRecon(config)
    other.load_state_dict(tiny_model().state_dict())
    assert torch.equal(states(model), states(other.eval()))


@torch.no_grad()
def test_without_consistency_the_data_are_not_asked(problem: SliceProblem) -> None:
    with_data = tiny_model()
    decoder = replace(with_data.config.decoder, consistency_steps=0)
    without = changed(decoder=decoder)
    image = without([problem])[0]
    assert not torch.equal(image, with_data([problem])[0])
    with_data.decoder.log_prior.fill_(50.0)  # a prior so strong that the data change nothing
    nearest = with_data([problem])[0]
    assert (image - nearest).abs().max() < 1e-3 * image.abs().max()


def test_files_keep_what_was_left_out(tmp_path: Path) -> None:
    model = changed(passes=2, trigger=False)
    save_checkpoint(model, tmp_path / "a.safetensors", covers={}, training={})
    loaded = load_model(tmp_path / "a.safetensors").model
    assert (loaded.config.passes, loaded.config.trigger) == (2, False)
    assert torch.equal(states(loaded), states(model))


@pytest.mark.parametrize(("change", "says"), [({"passes": 0}, "passes is 0"), ({"passes": 9}, "1 to 4")])
def test_what_cannot_be_is_named(change: dict[str, int], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        replace(tiny_config(), **change)
