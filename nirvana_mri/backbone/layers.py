"""The small layers: projections, norms, the short convolution, the gated MLP."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nirvana_mri.backbone.config import CONV_TAPS
from nirvana_mri.backbone.ops.precision import at_least_float32


class Linear(nn.Linear):
    """A projection without bias. It draws no random numbers: NirvanaLM.init_weights sets every value once."""

    def __init__(self, size_in: int, size_out: int) -> None:
        super().__init__(size_in, size_out, bias=False)

    def reset_parameters(self) -> None:
        pass


class Embedding(nn.Embedding):
    """A table of token vectors that draws no random numbers when it is made."""

    def reset_parameters(self) -> None:
        pass


class LowRank(nn.Module):
    """Two projections through a narrow middle, without an activation between them."""

    def __init__(self, size_in: int, rank: int, size_out: int) -> None:
        super().__init__()
        self.down = Linear(size_in, rank)
        self.up = Linear(rank, size_out)

    def forward(self, x: Float[Tensor, "*batch channel_in"]) -> Float[Tensor, "*batch channel_out"]:
        return self.up(self.down(x))


def rms_norm(
    x: Float[Tensor, "*batch channel"], weight: Float[Tensor, " channel"], eps: float
) -> Float[Tensor, "*batch channel"]:
    """x / sqrt(mean x^2 + eps) * weight along the last axis, computed in float32 or better."""
    wide = at_least_float32(x)
    wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return (wide * weight).to(x.dtype)


class RMSNorm(nn.Module):
    """rms_norm with a learned weight."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.eps = eps

    def forward(self, x: Float[Tensor, "*batch channel"]) -> Float[Tensor, "*batch channel"]:
        return rms_norm(x, self.weight, self.eps)


class GatedRMSNorm(nn.Module):
    """rms_norm(x) * silu(gate), with a learned weight."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.eps = eps

    def forward(
        self, x: Float[Tensor, "*batch channel"], gate: Float[Tensor, "*batch channel"]
    ) -> Float[Tensor, "*batch channel"]:
        return rms_norm(x, self.weight, self.eps) * F.silu(gate)


class ShortConv(nn.Module):
    """A causal convolution of each channel with its own four taps, then SiLU; no bias.

    The last tap meets the token itself. Before the first token there are zeros.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, 1, CONV_TAPS))

    def forward(
        self, x: Float[Tensor, "batch token channel"], real: Bool[Tensor, "batch token"] | None = None
    ) -> Float[Tensor, "batch token channel"]:
        """real marks the tokens that are no padding; the others count as zero."""
        if real is not None:
            x = x.masked_fill(~real[..., None], 0)
        padded = F.pad(x.transpose(1, 2), (CONV_TAPS - 1, 0))
        return F.silu(F.conv1d(padded, self.weight, groups=self.weight.shape[0]).transpose(1, 2))

    def resume(
        self,
        x: Float[Tensor, "batch token channel"],
        real: Bool[Tensor, "batch token"] | None,
        tail: Float[Tensor, "batch taps channel"] | None,
    ) -> tuple[Float[Tensor, "batch token channel"], Float[Tensor, "batch taps channel"]]:
        """The same after the inputs that an earlier call left as its tail (zeros for None), and the new tail."""
        if real is not None:
            x = x.masked_fill(~real[..., None], 0)
        if tail is None:
            tail = x.new_zeros(x.shape[0], CONV_TAPS - 1, x.shape[2])
        joined = torch.cat([tail, x], dim=1)
        if x.shape[1] == 1:
            y = torch.einsum("btc,ct->bc", joined, self.weight[:, 0])[:, None]
        else:
            y = F.conv1d(joined.transpose(1, 2), self.weight, groups=self.weight.shape[0]).transpose(1, 2)
        return F.silu(y), joined[:, 1 - CONV_TAPS :].clone()


class GatedMLP(nn.Module):
    """down(silu(gate x) * up x), with gate and up in one projection (gate first)."""

    def __init__(self, size: int, intermediate: int) -> None:
        super().__init__()
        self.gate_up = Linear(size, 2 * intermediate)
        self.down = Linear(intermediate, size)

    def forward(self, x: Float[Tensor, "*batch channel"]) -> Float[Tensor, "*batch channel"]:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)
