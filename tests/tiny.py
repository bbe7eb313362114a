"""A whole model small enough for tests, and scans to try it on. Tests import it as ``tiny``."""

from pathlib import Path

import numpy as np
import torch

from nirvana_mri.backbone import BackboneConfig
from nirvana_mri.codecs import ImageDecoderConfig, KSpaceEncoderConfig
from nirvana_mri.recon.model import NirvanaRecon, NirvanaReconConfig
from nirvana_mri.recon.simulate import simulate
from nirvana_mri.scan import Scan


def tiny_config(backbone: str = "random") -> NirvanaReconConfig:
    lm = BackboneConfig(
        vocab_size=32, hidden_size=32, num_layers=3, num_heads=2, concept_dim=8, logit_dim=4, intermediate_size=64
    )
    encoder = KSpaceEncoderConfig(32, width=32, depth=1, heads=2)
    decoder = ImageDecoderConfig(32, cascades=2, widths=(8, 12, 16), token_width=8, consistency_steps=2)
    return NirvanaReconConfig(lm, encoder, decoder, backbone=backbone)


def tiny_model(seed: int = 0, backbone: str = "random") -> NirvanaRecon:
    """An untrained model whose U-Nets, unlike freshly made ones, change the picture."""
    torch.manual_seed(seed)
    model = NirvanaRecon(tiny_config(backbone))
    with torch.no_grad():
        for unet in model.decoder.cascades:
            for layer in (unet.leave, unet.modulate):
                layer.weight.normal_(0, 0.02)
    return model.eval()


def head(ny: int = 64, nx: int = 56, slices: int = 1, seed: int = 0) -> np.ndarray:
    """Magnitude pictures ``[slice ny nx]`` of ellipses within an ellipse."""
    draw = np.random.default_rng(seed)
    y, x = np.meshgrid(np.linspace(-1, 1, ny), np.linspace(-1, 1, nx), indexing="ij")
    pictures = np.zeros((slices, ny, nx), np.float32)
    for picture in pictures:
        picture[(x / 0.8) ** 2 + (y / 0.85) ** 2 < 1] = 1
        for _ in range(8):
            cy, cx, ry, rx = *draw.uniform(-0.5, 0.5, 2), *draw.uniform(0.04, 0.3, 2)
            picture[((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1] *= draw.uniform(0.4, 1.3)
    return pictures


def tiny_scan(
    ny: int = 64, nx: int = 56, slices: int = 1, coils: int = 4, out: Path | None = None, seed: int = 1
) -> Scan:
    """A simulated, fully sampled scan; written to ``out`` where given."""
    return simulate(head(ny, nx, slices), coils=coils, noise=0.01, seed=seed, out=out, name="head")
