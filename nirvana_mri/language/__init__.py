"""The backbone as a language model: text in, pretraining, scores, and pictures of its memory. Nothing of MRI."""

from nirvana_mri.language.load import LanguageModel, load_language_model
from nirvana_mri.language.memory import MemoryRecord, memory_record
from nirvana_mri.language.needle_score import needle_in_haystack
from nirvana_mri.language.perplexity import PerplexityScore, perplexity
from nirvana_mri.language.pretrain import PretrainConfig, pretrain

__all__ = [
    "LanguageModel",
    "MemoryRecord",
    "PerplexityScore",
    "PretrainConfig",
    "load_language_model",
    "memory_record",
    "needle_in_haystack",
    "perplexity",
    "pretrain",
]
