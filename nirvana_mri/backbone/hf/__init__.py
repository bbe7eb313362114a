"""The language model for Hugging Face's tools: Auto classes, generate, PEFT, lm-eval (extra `hf`).

Importing this package registers the classes; AutoModelForCausalLM.from_pretrained then reads the authors' published
folder (model_type transformer_rnn) and what save_pretrained wrote (model_type nirvana), without trust_remote_code.
"""

from nirvana_mri.errors import MissingExtraError

try:
    import transformers as _transformers
except ImportError as problem:
    raise MissingExtraError("The Hugging Face adapter", "hf") from problem

from nirvana_mri.backbone.hf.cache import NirvanaCache
from nirvana_mri.backbone.hf.configuration import NirvanaConfig
from nirvana_mri.backbone.hf.modeling import NirvanaForCausalLM, NirvanaModel
from nirvana_mri.backbone.published_folder import MODEL_TYPE as PUBLISHED_TYPE

_transformers.AutoConfig.register(NirvanaConfig.model_type, NirvanaConfig, exist_ok=True)
_transformers.AutoModel.register(NirvanaConfig, NirvanaModel, exist_ok=True)
_transformers.AutoModelForCausalLM.register(NirvanaConfig, NirvanaForCausalLM, exist_ok=True)
if PUBLISHED_TYPE not in _transformers.CONFIG_MAPPING:  # where the authors' own code is loaded, theirs stays
    _transformers.CONFIG_MAPPING.register(PUBLISHED_TYPE, NirvanaConfig)

__all__ = ["NirvanaCache", "NirvanaConfig", "NirvanaForCausalLM", "NirvanaModel"]
