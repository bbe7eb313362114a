"""The model that comes with the package: it is there, small, described, and better than the yardsticks."""

from importlib import resources
from pathlib import Path

import pytest
from support import write_brain8
from tiny import head

import nirvana_mri as nm
from nirvana_mri.recon.checkpoint import LoadedModel
from nirvana_mri.recon.simulate import simulate

CLASSICAL = ("zero-filled", "sense", "wavelet")


@pytest.fixture(scope="module")
def nano() -> LoadedModel:
    return nm.load_model("nano")


def test_it_is_small_and_its_card_names_it(nano: LoadedModel) -> None:
    folder = Path(str(resources.files("nirvana_mri") / "weights"))
    assert (folder / "nano.safetensors").stat().st_size <= 40 * 2**20
    card = (folder / "nano.md").read_text()
    assert nano.sha256 in card
    assert nano.backbone_sha256 in card
    assert "not for clinical use" in card.lower()
    for subject in nano.training["split"]["training"] + nano.training["split"]["validation"]:
        assert subject in card


def test_it_says_what_it_covers(nano: LoadedModel) -> None:
    assert nano.covers["accelerations"] == [3, 8]
    assert nano.covers["anatomy"] == ["brain"]
    assert nano.training["recipe"]["masks"]["kinds"]


def test_it_beats_linear_methods_on_a_picture_that_it_never_saw(nano: LoadedModel) -> None:
    scan = simulate(head(160, 144), coils=8, noise=0.01, seed=3)
    scores = {m: nm.evaluate(nm.reconstruct(scan, nano, m, accelerate=4), scan) for m in ("sense", "nirvana")}
    assert scores["nirvana"].psnr > scores["sense"].psnr + 1
    assert scores["nirvana"].ssim > scores["sense"].ssim


@pytest.mark.parametrize("seed", [0, 1])
def test_on_real_k_space_it_beats_every_classical_method(
    nano: LoadedModel, shared_data: Path, tmp_path: Path, seed: int
) -> None:
    scan = nm.open_scan(write_brain8(shared_data, tmp_path / "brain8.h5"))
    scores = {
        method: nm.evaluate(nm.reconstruct(scan, nano, method, accelerate=4, seed=seed), scan)
        for method in (*CLASSICAL, "nirvana")
    }
    assert scores["nirvana"].ssim > max(scores[method].ssim for method in CLASSICAL)
    assert scores["nirvana"].psnr > max(scores[method].psnr for method in CLASSICAL)
