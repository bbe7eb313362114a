"""The backbone's cache under the names that transformers' generate looks for."""

import torch
from torch import Tensor

from nirvana_mri.backbone.cache import Cache
from nirvana_mri.errors import UsageError


class NirvanaCache(Cache):
    """past_key_values of NirvanaForCausalLM: convolution tails, delta states, the window's keys and values."""

    is_compileable = False
    is_croppable = False

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens seen, padding included; the same in every layer."""
        return self.tokens

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Give row i the past of row beam_idx[i]."""
        self.reorder(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every row, to go on from one prompt in several ways."""
        self.reorder(torch.arange(self.batch_size).repeat_interleave(repeats))

    def crop(self, max_length: int) -> None:
        """Raises: UsageError, for a recurrent state cannot be taken back."""
        raise UsageError(f"a Nirvana cache cannot go back to {max_length} tokens; start a new one with new_cache")
