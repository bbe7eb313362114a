"""Pack a pretrained backbone for shipping: bfloat16, with its tokenizer, and what it was trained on in its header.

python scripts/pack_backbone.py runs/language/last.safetensors nirvana_mri/weights/nano-backbone.safetensors \
    --data "public-domain English books" --data "medical transcriptions (CC0)"
"""

import argparse
from pathlib import Path

from nirvana_mri.backbone import inspect_backbone, load_backbone
from nirvana_mri.backbone.file import save_backbone, stored_tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--data", action="append", default=[], help="what it has read; repeat at will")
    options = parser.parse_args()
    source = {**inspect_backbone(options.source).source, "data": options.data}
    save_backbone(load_backbone(options.source).bfloat16(), options.target, source, stored_tokenizer(options.source))
    print(inspect_backbone(options.target))


if __name__ == "__main__":
    main()
