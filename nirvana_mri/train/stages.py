"""Which weights a stage trains."""

from torch import nn

from nirvana_mri.recon.model import NirvanaRecon


def trained_parameters(model: NirvanaRecon, stage: str) -> list[nn.Parameter]:
    """The parameters that the stage moves; all others, the backbone's always, are frozen.

    ``encoder`` trains the encoder to make the language model say what is to be said of a scan (arXiv 2510.26083, stage
    1), ``decoder`` the decoder alone on the image loss (stage 2), ``joint`` both on the image loss.
    """
    parts = {"encoder": (model.encoder,), "joint": (model.encoder, model.decoder), "decoder": (model.decoder,)}[stage]
    model.requires_grad_(False)
    parameters = [parameter for part in parts for parameter in part.parameters()]
    for parameter in parameters:
        parameter.requires_grad_(True)
    return parameters
