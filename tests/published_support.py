"""Checkpoints in the authors' Hugging Face format, made from small models; and a Hub cache that holds one."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from nirvana_mri.backbone import BackboneConfig, NirvanaLM, published_parameters

EMBEDDING, HEAD = "model.embeddings.weight", "lm_head.weight"
CONCEPT = "model.layers.2.Task_Aware_Delta_Net.concept_proj.weight"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def state(model: NirvanaLM) -> dict[str, Tensor]:
    """Copies of the weights under the authors' names."""
    return {name: p.detach().clone() for name, p in published_parameters(model).items()}


def config_json(config: BackboneConfig) -> dict[str, Any]:
    """As the authors write it: with a window that the released blocks never pass on, and keys that do not count."""
    return {
        "model_type": "transformer_rnn",
        "architectures": ["TransformerForCausalLM_rnn"],
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_heads": config.num_heads,
        "concept_dim": config.concept_dim,
        "logit_dim": config.logit_dim,
        "intermediate_size": config.intermediate_size,
        "initializer_range": config.initializer_range,
        "tie_word_embeddings": config.tie_word_embeddings,
        "window_size": 2048,
        "rope_theta": 10000.0,
        "use_cache": False,
    }


def write_folder(folder: Path, tensors: dict[str, Tensor], config: dict[str, Any], shards: int = 1) -> Path:
    """A folder as ``save_pretrained`` leaves it; the tensors go to the shards in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        return folder
    places: dict[str, str] = {}
    for shard in range(shards):
        name = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = dict(list(tensors.items())[shard::shards])
        save_file(part, folder / name, {"format": "pt"})
        places |= dict.fromkeys(part, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


def write_cache(home: Path, repo: str, folder: Path, without: str = "nothing") -> Path:
    """HF_HOME with ``folder`` as the repository's main branch, laid out as huggingface_hub leaves it: the snapshot."""
    storage = home / "hub" / f"models--{repo.replace('/', '--')}"
    snapshot = storage / "snapshots" / COMMIT
    for part in (storage / "blobs", storage / "refs", snapshot):
        part.mkdir(parents=True)
    (storage / "refs" / "main").write_text(COMMIT)
    for file in sorted(folder.iterdir()):
        if file.name != without:
            blob = storage / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
            blob.write_bytes(file.read_bytes())
            (snapshot / file.name).symlink_to(os.path.relpath(blob, snapshot))
    return snapshot
