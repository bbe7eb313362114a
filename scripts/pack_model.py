"""Pack a trained model for shipping: codecs in float16, backbone in bfloat16.

python scripts/pack_model.py runs/nano/model.safetensors nirvana_mri/weights/nano.safetensors
"""

import sys
from pathlib import Path

import torch

from nirvana_mri.recon.checkpoint import load_model, save_checkpoint


def main() -> None:
    source, target = sys.argv[1:]
    loaded = load_model(source)
    save_checkpoint(
        loaded.model, Path(target), covers=loaded.covers, training=loaded.training, codec_dtype=torch.float16
    )


if __name__ == "__main__":
    main()
