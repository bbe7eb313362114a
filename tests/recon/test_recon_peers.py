"""fastMRI's networks: the same numbers as in its package, from files as it leaves them; nothing else is unpickled."""

import hashlib
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_scan

import nirvana_mri as nm
from nirvana_mri.errors import CheckpointError, ScanError, UsageError
from nirvana_mri.physics.coils import rss
from nirvana_mri.physics.fourier import ifft2c
from nirvana_mri.recon.fastmri_networks import FastMRIUnet, FastMRIVarNet, calibration_lines
from nirvana_mri.recon.peers import load_peer
from nirvana_mri.recon.problem import centre_crop

models = pytest.importorskip("fastmri.models")


def sampled(ny: int = 50, nx: int = 44, kept: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    scan = tiny_scan(ny, nx, coils=3)
    mask = torch.arange(nx) % 4 == 0
    mask[nx // 2 - kept // 2 : nx // 2 + kept // 2] = True
    return torch.where(mask, torch.from_numpy(scan.kspace[0]), 0), mask


def peer_varnet() -> torch.nn.Module:
    torch.manual_seed(0)
    return models.VarNet(num_cascades=2, sens_chans=3, sens_pools=2, chans=4, pools=3).eval()


def theirs(network: torch.nn.Module, kspace: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    shown = torch.view_as_real(kspace)[None]
    return network(shown, mask[None, None, None, :, None].expand(1, 1, 1, -1, 1))[0]


@pytest.mark.parametrize("shape", [(64, 48), (50, 44), (37, 31)])
@pytest.mark.parametrize("pools", [1, 3])
@torch.no_grad()
def test_the_unet_is_fastmris(shape: tuple[int, int], pools: int) -> None:
    torch.manual_seed(0)
    peer = models.Unet(in_chans=1, out_chans=1, chans=6, num_pool_layers=pools).eval()
    ours = FastMRIUnet(1, 1, 6, pools)
    ours.load_state_dict(peer.state_dict(), strict=True)
    x = torch.randn(2, 1, *shape)
    assert torch.allclose(ours(x), peer(x), atol=1e-6)


@pytest.mark.parametrize(("ny", "nx", "kept"), [(50, 44, 8), (64, 48, 12), (33, 41, 6)])
@torch.no_grad()
def test_the_varnet_is_fastmris(tmp_path: Path, ny: int, nx: int, kept: int) -> None:
    peer = peer_varnet()
    kspace, mask = sampled(ny, nx, kept)
    torch.save(peer.state_dict(), tmp_path / "w.pt")
    ours = load_peer("fastmri-varnet", tmp_path / "w.pt").picture(kspace, mask, (ny, nx))
    wanted = theirs(peer, kspace, mask)
    assert (ours - wanted).abs().max() <= 2e-5 * wanted.abs().max()


def test_calibration_lines_are_counted_as_there() -> None:
    sensitivity = models.varnet.SensitivityModel(2, 1)
    for seed in range(30):
        draw = np.random.default_rng(seed)
        mask = torch.from_numpy(draw.random(int(draw.integers(8, 40))) < 0.5)
        mask[len(mask) // 2 - 2 : len(mask) // 2 + int(draw.integers(1, 4))] = True
        shown = mask[None, None, None, :, None]
        pad, lines = sensitivity.get_pad_and_num_low_freqs(shown)
        ours = torch.nonzero(calibration_lines(mask)).flatten().tolist()
        assert ours == list(range(int(pad), int(pad) + int(lines)))


@torch.no_grad()
def test_the_unet_method_is_its_recipe(tmp_path: Path) -> None:
    """Zero-filled, cropped, normalised, cut off at 6, through the network, and back to the scan's scale."""
    transforms = pytest.importorskip("fastmri.data.transforms")
    peer = models.Unet(in_chans=1, out_chans=1, chans=4, num_pool_layers=2).eval()
    torch.save(
        {"state_dict": {f"unet.{name}": value for name, value in peer.state_dict().items()}}, tmp_path / "w.ckpt"
    )
    kspace, mask = sampled()
    image = centre_crop(rss(ifft2c(kspace)), (40, 40))
    seen, mean, deviation = transforms.normalize_instance(image, eps=1e-11)
    wanted = peer(seen.clamp(-6, 6)[None, None])[0, 0] * deviation + mean
    loaded = load_peer("fastmri-unet", tmp_path / "w.ckpt")
    ours = loaded.picture(kspace, mask, (40, 40))
    assert (ours - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    scaled = loaded.picture(kspace * 1e-7, mask, (40, 40))
    assert (scaled * 1e7 - ours).abs().max() <= 1e-4 * ours.abs().max()


def test_sizes_are_told_by_the_shapes(tmp_path: Path) -> None:
    torch.save(peer_varnet().state_dict(), tmp_path / "w.pt")
    network = load_peer("fastmri-varnet", tmp_path / "w.pt").network
    assert isinstance(network, FastMRIVarNet)
    assert len(network.cascades) == 2


def test_other_samplings_are_refused(tmp_path: Path) -> None:
    torch.save(peer_varnet().state_dict(), tmp_path / "w.pt")
    kspace, _ = sampled()
    with pytest.raises(ScanError, match="reads whole columns"):
        load_peer("fastmri-varnet", tmp_path / "w.pt").picture(kspace, torch.ones(50, 44, dtype=torch.bool), (40, 40))


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("owned"),))


def test_what_is_no_file_of_weights_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="needs its weights"):
        load_peer("fastmri-unet", None)
    with pytest.raises(UsageError, match="no such file"):
        load_peer("fastmri-unet", tmp_path / "none.pt")
    (tmp_path / "a.pt").write_bytes(b"no weights")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Hostile()))
    torch.save([1, 2], tmp_path / "c.pt")
    torch.save(peer_varnet().state_dict(), tmp_path / "d.pt")
    state = peer_varnet().state_dict()
    state.pop("cascades.1.dc_weight")
    torch.save(state, tmp_path / "e.pt")
    claims = {"down_sample_layers.0.layers.0.weight": torch.zeros(1, 1, 1, 1).expand(10**9, 1, 3, 3)}
    torch.save(claims | {"up_conv.0.1.weight": torch.zeros(1, 1, 1, 1)}, tmp_path / "f.pt")
    for name, method, says in (
        ("a", "fastmri-unet", "read safely"),
        ("b", "fastmri-unet", "read safely"),
        ("c", "fastmri-unet", "no tensors by name"),
        ("d", "fastmri-unet", "no weights of fastmri-unet"),
        ("e", "fastmri-varnet", "does not fit"),
        ("f", "fastmri-unet", "does not fit"),  # a billion channels, stored as one number
    ):
        with pytest.raises(CheckpointError, match=says):
            load_peer(method, tmp_path / f"{name}.pt")
    assert not (tmp_path / "owned").exists()


def test_a_peer_is_a_method_like_others(tmp_path: Path) -> None:
    """Same samples, its hash in the provenance, nothing read where nothing was measured, scale kept."""
    weights = tmp_path / "w.pt"
    torch.save(peer_varnet().state_dict(), weights)
    scan = tiny_scan(64, 56, coils=3)
    options = dict(model=weights, method="fastmri-varnet", accelerate=4, center_fraction=0.15)
    volume = nm.reconstruct(scan, **options)
    assert volume.provenance["model_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert volume.provenance["applied"] == "fastmri-varnet"
    mask = torch.from_numpy(np.asarray(volume.mask))
    kspace = torch.where(mask, torch.from_numpy(scan.kspace[0]), 0)
    wanted = theirs(peer_varnet(), kspace, mask).detach()
    assert float((torch.from_numpy(volume.voxels[0]) - wanted).abs().max()) <= 2e-5 * float(wanted.max())
    spoilt = replace(scan, kspace=np.where(mask.numpy(), scan.kspace[0], 7e3)[None].astype(np.complex64))
    assert np.array_equal(nm.reconstruct(spoilt, **options, seed=0).voxels, volume.voxels)
    for wrong in ({"combine": "sense"}, {"keep_phase": True}):
        with pytest.raises(UsageError, match="magnitudes"):
            nm.reconstruct(scan, **options, **wrong)
    with pytest.raises(UsageError, match="--weights"):
        nm.reconstruct(scan, method="fastmri-unet", accelerate=4)
