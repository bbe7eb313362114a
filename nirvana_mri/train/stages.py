"""Which weights a stage trains."""

from torch import nn

from nirvana_mri.errors import UsageError
from nirvana_mri.recon.model import NirvanaRecon


def require_trainable(stage: str) -> None:
    """UsageError for the stage that waits for report text."""
    if stage == "encoder":
        raise UsageError(
            "stage 'encoder' learns from report text, which this version cannot read; use 'joint' or 'decoder'"
        )


def trained_parameters(model: NirvanaRecon, stage: str) -> list[nn.Parameter]:
    """The parameters that the stage moves; all others, the backbone's always, are frozen.

    ``joint`` trains encoder and decoder on the image loss, ``decoder`` the decoder alone. ``encoder`` alone is trained
    on report text through the frozen language model (arXiv 2510.26083, stage 1), for which this version has no text:
    UsageError.
    """
    require_trainable(stage)
    parts = {"joint": (model.encoder, model.decoder), "decoder": (model.decoder,)}[stage]
    model.requires_grad_(False)
    parameters = [parameter for part in parts for parameter in part.parameters()]
    for parameter in parameters:
        parameter.requires_grad_(True)
    return parameters
