"""What a sequence leaves behind for its next tokens, of a size that does not grow past the attention window.

A delta rule keeps the last inputs of its three convolutions and its state; attention keeps the keys and values that the
window still sees. The Trigger needs nothing: its logits never pass from token to token.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nirvana_mri.backbone.config import BackboneConfig
from nirvana_mri.errors import UsageError

SMALLEST = 64  # slots that a ring of keys begins with


class KeyValueRing:
    """Keys and values of the last `window` tokens (of all tokens without a window), and which of them are real.

    The oldest is overwritten. Positions, if encoded, are in the keys already, so one token can attend to the slots in
    whatever order they lie. appended counts all tokens so far, padding too: the position of the next one.
    """

    def __init__(self, window: int | None) -> None:
        self.window = window
        self.filled = 0
        self.appended = 0
        self._next = 0
        self._keys: Tensor | None = None
        self._values: Tensor | None = None
        self._real: Tensor | None = None  # None while every token is real

    @property
    def nbytes(self) -> int:
        return sum(x.nbytes for x in (self._keys, self._values, self._real) if x is not None)

    def slots(self) -> tuple[Tensor, Tensor, Bool[Tensor, "batch slot"] | None]:
        """Keys and values [batch head slot channel] in no particular order, and which are real (None: all)."""
        assert self._keys is not None
        assert self._values is not None
        real = None if self._real is None else self._real[:, : self.filled]
        return self._keys[:, :, : self.filled], self._values[:, :, : self.filled], real

    def before(
        self, k: Float[Tensor, "batch head token channel"], v: Tensor, real: Tensor | None
    ) -> tuple[Tensor, Tensor, Bool[Tensor, "batch key"] | None]:
        """k, v and real with the older tokens that their first token still sees in front, oldest first."""
        if not self.filled or self.window == 1:
            return k, v, real
        keys, values, marks = self.slots()
        start = self._next if self.filled == self.window else 0
        keep = self.filled if self.window is None else min(self.filled, self.window - 1)
        order = (torch.arange(self.filled - keep, self.filled, device=k.device) + start) % self.filled
        k_all = torch.cat([keys.index_select(2, order), k], dim=2)
        v_all = torch.cat([values.index_select(2, order), v], dim=2)
        if marks is None and real is None:
            return k_all, v_all, None
        old = k.new_ones(k.shape[0], keep, dtype=torch.bool) if marks is None else marks.index_select(1, order)
        new = k.new_ones(k.shape[0], k.shape[2], dtype=torch.bool) if real is None else real
        return k_all, v_all, torch.cat([old, new], dim=1)

    def append(self, k: Float[Tensor, "batch head token channel"], v: Tensor, real: Tensor | None) -> None:
        """Remember new tokens; those that the window has left are overwritten."""
        self.appended += k.shape[2]
        if self.window is not None and k.shape[2] > self.window:
            k, v = k[:, :, -self.window :], v[:, :, -self.window :]
            real = None if real is None else real[:, -self.window :]
        tokens = k.shape[2]
        capacity = self._reserve(k, v, tokens)
        slots = [self._next, min(self._next + tokens, capacity)]
        first = slots[1] - slots[0]
        self._write(slots[0], k[:, :, :first], v[:, :, :first], None if real is None else real[:, :first])
        if first < tokens:
            self._write(0, k[:, :, first:], v[:, :, first:], None if real is None else real[:, first:])
        self._next = (self._next + tokens) % capacity if capacity == self.window else self._next + tokens
        self.filled = min(self.filled + tokens, capacity)

    def reorder(self, rows: Int[Tensor, " row"]) -> None:
        """Rows of the batch in another order (beams)."""
        for name in ("_keys", "_values", "_real"):
            if (held := getattr(self, name)) is not None:
                setattr(self, name, held.index_select(0, rows))

    def _reserve(self, k: Tensor, v: Tensor, tokens: int) -> int:
        """Make room for more tokens, by doubling, up to the window; the number of slots."""
        have = 0 if self._keys is None else self._keys.shape[2]
        need = self.filled + tokens
        if have >= need or have == self.window:
            return have
        capacity = max(SMALLEST, need, 2 * have)
        if self.window is not None:
            capacity = min(capacity, self.window)
        self._keys, self._values = _grown(self._keys, k, capacity), _grown(self._values, v, capacity)
        if self._real is not None:
            marks = self._real.new_ones(k.shape[0], capacity)
            marks[:, : self.filled] = self._real[:, : self.filled]
            self._real = marks
        return capacity

    def _write(self, start: int, k: Tensor, v: Tensor, real: Tensor | None) -> None:
        assert self._keys is not None
        assert self._values is not None
        stop = start + k.shape[2]
        self._keys[:, :, start:stop] = k
        self._values[:, :, start:stop] = v
        if real is not None and self._real is None:
            self._real = real.new_ones(k.shape[0], self._keys.shape[2])
        if self._real is not None:
            self._real[:, start:stop] = True if real is None else real


def _grown(held: Tensor | None, like: Tensor, capacity: int) -> Tensor:
    batch, heads, _, channels = like.shape
    grown = like.new_zeros(batch, heads, capacity, channels)
    if held is not None:
        grown[:, :, : held.shape[2]] = held
    return grown


@dataclass
class LayerCache:
    """One layer's part: tails of its convolutions (query, key, value), the delta state, and a ring if it attends."""

    ring: KeyValueRing | None
    tails: list[Tensor | None] = field(default_factory=lambda: [None, None, None])  # [batch, taps - 1, channel]
    state: Float[Tensor, "batch head key value"] | None = None

    @property
    def nbytes(self) -> int:
        held = [x.nbytes for x in (*self.tails, self.state) if x is not None]
        return sum(held) + (0 if self.ring is None else self.ring.nbytes)

    def reorder(self, rows: Int[Tensor, " row"]) -> None:
        self.tails = [None if tail is None else tail.index_select(0, rows) for tail in self.tails]
        self.state = None if self.state is None else self.state.index_select(0, rows)
        if self.ring is not None:
            self.ring.reorder(rows)


class Cache:
    """The state of a batch of sequences between calls of one model; made by NirvanaLM.new_cache."""

    def __init__(self, config: BackboneConfig, batch_size: int) -> None:
        if not isinstance(batch_size, int) or batch_size < 1:
            raise UsageError(f"batch_size is {batch_size!r}; expected a positive integer")
        self.config = config
        self.batch_size = batch_size
        self.tokens = 0
        self.layers = [
            LayerCache(KeyValueRing(config.window_size) if index in config.attention_layers else None)
            for index in range(config.num_layers)
        ]

    @property
    def nbytes(self) -> int:
        """Bytes held now; constant once the window is full."""
        return sum(layer.nbytes for layer in self.layers)

    def reorder(self, rows: Int[Tensor, " row"]) -> None:
        """Make row i what row rows[i] was; rows may repeat, and the batch becomes as large as rows is long."""
        if rows.numel() == 0 or int(rows.min()) < 0 or int(rows.max()) >= self.batch_size:
            raise UsageError(f"rows {rows.tolist()} must name rows of the cache, 0 to {self.batch_size - 1}")
        for layer in self.layers:
            layer.reorder(rows)
        self.batch_size = rows.numel()

    def __repr__(self) -> str:
        return f"Cache(batch_size={self.batch_size}, tokens={self.tokens}, {self.nbytes / 2**20:.1f} MiB)"
