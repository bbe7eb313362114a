"""Causal softmax attention, with a window and rotary positions where the configuration asks for them."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nirvana_mri.backbone.cache import KeyValueRing
from nirvana_mri.backbone.config import BackboneConfig
from nirvana_mri.backbone.layers import LowRank
from nirvana_mri.backbone.rotary import rotate

TILE = 256


class Heads(nn.Module):
    """Queries, keys and values to what every token reads, head by head; it learns nothing."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.window = config.window_size
        self.rotary = config.rotary

    def forward(
        self,
        q: Float[Tensor, "batch token channel"],
        k: Float[Tensor, "batch token channel"],
        v: Float[Tensor, "batch token channel"],
        real: Bool[Tensor, "batch token"] | None,
        ring: KeyValueRing | None = None,
    ) -> Float[Tensor, "batch token channel"]:
        """ring holds the tokens before, and takes these."""
        q, k, v = self._split(q), self._split(k), self._split(v)
        if self.rotary:
            first = 0 if ring is None else ring.appended
            q, k = rotate(q, first), rotate(k, first)
        seen = causal_attention(q, k, v, self.window, real) if ring is None else self._continue(q, k, v, real, ring)
        return seen.transpose(1, 2).flatten(2)

    def _continue(self, q: Tensor, k: Tensor, v: Tensor, real: Tensor | None, ring: KeyValueRing) -> Tensor:
        if q.shape[2] > 1:
            keys, values, marks = ring.before(k, v, real)
            seen = causal_attention(q, keys, values, self.window, marks)
            ring.append(k, v, real)
            return seen
        ring.append(k, v, real)
        keys, values, marks = ring.slots()
        if marks is None:
            return F.scaled_dot_product_attention(q, keys, values)
        seen = F.scaled_dot_product_attention(q, keys, values, attn_mask=marks[:, None, None, :])
        return seen if real is None else seen.masked_fill(~real[:, None, :, None], 0)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class AttentionBranch(nn.Module):
    """Attention over the memory's own projections, each corrected by a low-rank pair; low-rank output."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.heads = Heads(config)
        self.query_lora = LowRank(size, size // 16, size)
        self.key_lora = LowRank(size, size // 16, size)
        self.value_lora = LowRank(size, size // 16, size)
        self.output = LowRank(size, size // 8, size)

    def forward(
        self,
        x: Float[Tensor, "batch token channel"],
        q: Float[Tensor, "batch token channel"],
        k: Float[Tensor, "batch token channel"],
        v: Float[Tensor, "batch token channel"],
        real: Bool[Tensor, "batch token"] | None,
        ring: KeyValueRing | None = None,
    ) -> Float[Tensor, "batch token channel"]:
        """q, k and v are the projections of x before the memory's convolutions; ring holds the tokens before."""
        q, k, v = q + self.query_lora(x), k + self.key_lora(x), v + self.value_lora(x)
        return self.output(self.heads(q, k, v, real, ring))


def causal_attention(
    q: Float[Tensor, "batch head token channel"],
    k: Float[Tensor, "batch head key channel"],
    v: Float[Tensor, "batch head key channel"],
    window: int | None = None,
    real: Bool[Tensor, "batch key"] | None = None,
) -> Float[Tensor, "batch head token channel"]:
    """What each token reads from itself and the window - 1 tokens before it (all of them without a window).

    The queries belong to the last tokens of the keys. Padding (real is False) is never read, and reads zero. With a
    window the work grows as token * window.
    """
    tokens, past = q.shape[2], k.shape[2] - q.shape[2]
    if real is None and past == 0 and (window is None or window >= tokens):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    tiles = []
    for start in range(past, past + tokens, TILE):
        stop = min(start + TILE, past + tokens)
        first = 0 if window is None else max(0, start - window + 1)
        visible = _visible(start, stop, first, window, real, q.device)
        tiles.append(
            F.scaled_dot_product_attention(
                q[:, :, start - past : stop - past], k[:, :, first:stop], v[:, :, first:stop], attn_mask=visible
            )
        )
    seen = torch.cat(tiles, dim=2)
    return seen if real is None else seen.masked_fill(~real[:, None, past:, None], 0)


def _visible(
    start: int, stop: int, first: int, window: int | None, real: Tensor | None, device: torch.device
) -> Bool[Tensor, "*batch query key"]:
    """Which of the tokens first..stop each token of start..stop reads; itself always, so that no row is empty."""
    query = torch.arange(start, stop, device=device)[:, None]
    key = torch.arange(first, stop, device=device)
    visible = key <= query
    if window is not None:
        visible = visible & (query - key < window)
    if real is not None:
        visible = (visible & real[:, None, None, first:stop]) | (key == query)
    return visible
