"""Pack a trained model for shipping: codecs in float16, backbone in bfloat16, and as many consistency steps as it is
used with.

python scripts/pack_model.py runs/nano/best.safetensors nirvana_mri/weights/nano.safetensors --consistency-steps 10
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from nirvana_mri.recon.checkpoint import load_model, save_checkpoint
from nirvana_mri.recon.model import NirvanaRecon


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--consistency-steps", type=int, help="at use; more than in training come nearer to the data")
    options = parser.parse_args()
    loaded = load_model(options.source)
    model = loaded.model
    if options.consistency_steps:
        decoder = replace(model.config.decoder, consistency_steps=options.consistency_steps)
        model = NirvanaRecon(replace(model.config, decoder=decoder))
        model.load_state_dict(loaded.model.state_dict())
    save_checkpoint(model, options.target, covers=loaded.covers, training=loaded.training, codec_dtype=torch.float16)


if __name__ == "__main__":
    main()
