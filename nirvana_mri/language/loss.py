"""The loss of the next token, without ever holding all logits."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from nirvana_mri.backbone import NirvanaLM

PIECE = 512  # tokens whose logits exist at once


class NextTokenLoss(nn.Module):
    """A language model whose output is its mean loss [nats per token]; labels are the next tokens, already shifted."""

    def __init__(self, model: NirvanaLM) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Int[Tensor, "batch token"], labels: Int[Tensor, "batch token"]) -> Float[Tensor, ""]:
        final = self.model(input_ids=ids, compute_logits=False).final_hidden
        return next_token_loss(final.flatten(0, 1), self.model.head_weight, labels.flatten())


def next_token_loss(
    hidden: Float[Tensor, "token channel"], head: Float[Tensor, "vocabulary channel"], labels: Int[Tensor, " token"]
) -> Float[Tensor, ""]:
    """Mean cross-entropy of labels under softmax(hidden @ head.T), in float32 or better, PIECE tokens at a time."""
    loss: Float[Tensor, ""] = _CrossEntropy.apply(hidden, head, labels)
    return loss


def token_losses(
    hidden: Float[Tensor, "token channel"], head: Float[Tensor, "vocabulary channel"], labels: Int[Tensor, " token"]
) -> Float[Tensor, " token"]:
    """Cross-entropy [nats] of every token, without gradients."""
    with torch.no_grad():
        parts = [
            F.cross_entropy((h @ head.T).float(), y, reduction="none")
            for h, y in zip(hidden.split(PIECE), labels.split(PIECE), strict=True)
        ]
    return torch.cat(parts)


class _CrossEntropy(torch.autograd.Function):
    """Both gradients are made while the logits of a piece are there, so that they need not be kept or made again."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, labels: Tensor) -> Tensor:
        dtype = torch.promote_types(hidden.dtype, torch.float32)
        by_hidden = torch.empty_like(hidden)
        by_head = torch.zeros_like(head, dtype=dtype)
        total = torch.zeros((), dtype=dtype, device=hidden.device)
        for h, y, out in zip(hidden.split(PIECE), labels.split(PIECE), by_hidden.split(PIECE), strict=True):
            share = (h @ head.to(h.dtype).T).to(dtype)
            evidence = share.logsumexp(1, keepdim=True)
            total += (evidence - share.gather(1, y[:, None])).sum()
            share.sub_(evidence).exp_()
            share[torch.arange(len(y), device=y.device), y] -= 1
            share /= len(labels)
            small = share.to(h.dtype)
            torch.mm(small, head.to(h.dtype), out=out)
            if dtype == h.dtype:
                by_head.addmm_(small.T, h)
            else:
                by_head += small.T @ h
        ctx.save_for_backward(by_hidden, by_head.to(head.dtype))
        return total / len(labels)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        by_hidden, by_head = ctx.saved_tensors
        return by_hidden * gradient.to(by_hidden.dtype), by_head * gradient.to(by_head.dtype), None
