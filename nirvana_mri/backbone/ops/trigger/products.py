"""The Trigger's products with the bank, a tile of tokens at a time; nothing here is followed by autograd."""

import torch
from jaxtyping import Float
from torch import Tensor

from nirvana_mri.backbone.ops.trigger.naive import LAYER_NORM_EPS, TriggerBank, TriggerLogits


class Product:
    """Y[n, o, l] = sum_i x[n, i] A[i, o, l], for one tile after another in one piece of memory."""

    def __init__(self, weight_linear: Float[Tensor, "concept_in concept logit"], rows: int) -> None:
        """rows: the most that a call will ask for, over all its arguments together."""
        self.shape = weight_linear.shape[1:]
        self.matrix = weight_linear.flatten(1)
        self.memory = self.matrix.new_empty(rows, self.matrix.shape[1])

    def __call__(self, *vectors: Float[Tensor, "token concept"]) -> tuple[Float[Tensor, "token concept logit"], ...]:
        """Y of each argument, valid until the next call."""
        stacked = torch.cat(vectors) if len(vectors) > 1 else vectors[0]
        product = torch.mm(stacked, self.matrix, out=self.memory[: len(stacked)])
        return product.unflatten(1, self.shape).chunk(len(vectors))

    def back(self, outer: Float[Tensor, "token concept_logit"]) -> Float[Tensor, "token concept"]:
        """sum_ol A[i, o, l] outer[n, o, l]: the gradient for x, given the one for Y."""
        return outer @ self.matrix.T


def over_logits(
    product: Float[Tensor, "token concept logit"], p: Float[Tensor, "token logit"]
) -> Float[Tensor, "token concept"]:
    """sum_l Y p. With p as a row this runs at the speed of memory; with p as a column five times slower."""
    return torch.bmm(p[:, None], product.transpose(1, 2))[:, 0]


def over_channels(
    product: Float[Tensor, "token concept logit"],
    d: Float[Tensor, "token concept"],
    add_to: Float[Tensor, "token logit"],
    times: float = 1.0,
) -> Float[Tensor, "token logit"]:
    """add_to + times * sum_o Y d."""
    return torch.baddbmm(add_to[:, None], d[:, None], product, alpha=times)[:, 0]


def network(
    product: Float[Tensor, "token concept logit"], logits: TriggerLogits, bank: TriggerBank
) -> tuple[Float[Tensor, "token concept"], Float[Tensor, "token 1"], Float[Tensor, "token concept"]]:
    """The layer norm's output, 1 / its standard deviation, and the scale that follows it."""
    z = torch.addmm(over_logits(product, logits.weight_linear), logits.bias_linear, bank.bias_linear.T)
    return network_after(z, logits, bank)


def network_after(
    z: Float[Tensor, "token concept"], logits: TriggerLogits, bank: TriggerBank
) -> tuple[Float[Tensor, "token concept"], Float[Tensor, "token 1"], Float[Tensor, "token concept"]]:
    """As network, given what enters the layer norm."""
    normed, _, inverse_std = torch.native_layer_norm(z, z.shape[-1:], None, None, LAYER_NORM_EPS)
    return normed, inverse_std, logits.weight_ln @ bank.weight_ln.T
