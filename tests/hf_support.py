"""What the tests of the Hugging Face adapter share: the authors' folder on disk, a tiny model, a tiny tokenizer."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from backbone_support import tiny_config
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from nirvana_mri.backbone import BackboneConfig, published_parameters
from nirvana_mri.backbone.hf import NirvanaConfig, NirvanaForCausalLM

# What the authors' file says beside the sizes.
THEIR_KEYS: dict[str, Any] = dict(
    model_type="transformer_rnn",
    architectures=["TransformerForCausalLM_rnn"],
    auto_map={"AutoModelForCausalLM": "modeling_transformer_rnn.TransformerForCausalLM_rnn"},
    use_cache=False,
    fuse_norm=True,
    hidden_act="swish",
    max_position_embeddings=32768,
)
WORDS = ["<pad>", "</s>", "<unk>", *"abcdefghijklmnopqrstuvwxyz"]  # 29, as many as the tiny model knows


def write_published(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Path:
    """A folder as the authors' save_pretrained leaves it."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(THEIR_KEYS | dict(config)))
    copies = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
    save_file(copies, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def published_keys(config: BackboneConfig) -> dict[str, Any]:
    """The sizes under the authors' keys, without ours."""
    keys = NirvanaConfig.from_backbone(config).to_diff_dict()
    return {
        name: value for name, value in keys.items() if name not in ("attention_window", "trigger_rate", "model_type")
    }


def published_tensors(model: NirvanaForCausalLM) -> dict[str, Tensor]:
    return {name: tensor.detach() for name, tensor in published_parameters(model.model).items()}


def tiny_hf(seed: int = 1, dtype: torch.dtype = torch.float64, **changes: Any) -> NirvanaForCausalLM:
    """The tiny model wrapped, in eval mode; eos is 1 and padding 0, as in the tiny tokenizer."""
    config = NirvanaConfig.from_backbone(tiny_config(**({"pad_token_id": 0} | changes)), eos_token_id=1)
    model = NirvanaForCausalLM(config)
    model.model.init_weights(seed)
    return model.to(dtype).eval()


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """One token per word; the words are the letters."""
    vocabulary = {word: index for index, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", padding_side="left"
    )
