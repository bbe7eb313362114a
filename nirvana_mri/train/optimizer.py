"""How codecs learn: Muon for matrices and kernels of convolutions, AdamW for the rest; or AdamW for all."""

from collections.abc import Sequence

import torch
from torch import Tensor

from nirvana_mri.language.optimizer import SMALLEST_MATRIX, Muon

ADAM_SHARE = 0.6  # of Muon's rate, for AdamW beside it
BETAS, DECAY = (0.9, 0.99), 1e-4


def codec_optimizers(parameters: Sequence[Tensor], kind: str) -> list[torch.optim.Optimizer]:
    """The optimisers that together move every parameter; each group's ``share`` is its part of the run's rate.

    On the nano codecs Muon learns more in the same time, though its step costs more (docs/decisions/0005).
    """
    if kind == "adamw":
        return [torch.optim.AdamW([{"params": list(parameters), "share": 1.0}], betas=BETAS, weight_decay=DECAY)]
    matrices = [p for p in parameters if p.ndim > 1 and min(p.flatten(1).shape) >= SMALLEST_MATRIX]
    held = {id(parameter) for parameter in matrices}
    rest = [{"params": [p for p in parameters if id(p) not in held], "share": ADAM_SHARE}]
    muon = Muon(matrices, lr=0.0, weight_decay=DECAY, like_adam=True)
    muon.param_groups[0]["share"] = 1.0
    return [muon, torch.optim.AdamW(rest, betas=BETAS, weight_decay=DECAY)]
