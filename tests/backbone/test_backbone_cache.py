"""The cache: reading in pieces gives what reading at once gives, at every token, in memory that does not grow."""

import pytest
import torch
from backbone_support import error, noise, tiny_model
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from nirvana_mri.backbone import NirvanaLM
from nirvana_mri.backbone.cache import Cache, KeyValueRing
from nirvana_mri.backbone.ops.trigger import naive
from nirvana_mri.errors import UsageError

TOKENS = 150  # crosses the chunk of 64 twice
WINDOWS = [None, 1, 2, 9, 64, 200]
DEAR = settings(max_examples=settings().max_examples // 4)  # for each window; an example reads up to 13 pieces


def ids(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 29, shape, generator=torch.Generator().manual_seed(seed))


def in_pieces(model: NirvanaLM, x: Tensor, cuts: list[int], mask: Tensor | None = None) -> tuple[Tensor, Cache]:
    """Logits of every token, read from cut to cut."""
    cache, logits = model.new_cache(x.shape[0]), []
    for start, stop in zip([0, *cuts], [*cuts, x.shape[1]], strict=True):
        piece = None if mask is None else mask[:, start:stop]
        name = "input_ids" if x.ndim == 2 else "inputs_embeds"
        logits.append(model(**{name: x[:, start:stop]}, attention_mask=piece, cache=cache).logits)
        assert cache.tokens == stop
    return torch.cat(logits, dim=1), cache


@pytest.fixture(scope="module", params=WINDOWS)
def windowed(request: pytest.FixtureRequest) -> NirvanaLM:
    """A model for each window; nobody changes it."""
    return tiny_model(window_size=request.param)


def test_steps_equal_the_whole(windowed: NirvanaLM) -> None:
    """A prompt, then token by token, over where memory without a window grows (128)."""
    model, x = windowed, ids(2, TOKENS)
    stepped, _ = in_pieces(model, x, list(range(110, TOKENS)))
    assert error(stepped, model(input_ids=x).logits) <= 1e-10


@DEAR
@given(cuts=st.sets(st.integers(1, TOKENS - 1), max_size=12).map(sorted))
@example(cuts=[1, 2, 32, 64, 65, 75, 128])
def test_any_pieces_equal_the_whole(windowed: NirvanaLM, cuts: list[int]) -> None:
    model, x = windowed, noise(1, TOKENS, 16)
    pieces, _ = in_pieces(model, x, cuts)
    assert error(pieces, model(inputs_embeds=x).logits) <= 1e-10


@DEAR
@given(padding=st.integers(1, TOKENS - 2), cuts=st.sets(st.integers(1, TOKENS - 1), max_size=6).map(sorted))
@example(padding=70, cuts=[20, 64, 66, 100])
def test_left_padding_in_pieces(windowed: NirvanaLM, padding: int, cuts: list[int]) -> None:
    """Rows of several lengths; a piece, the first one too, may be padding alone in one row."""
    model, x = windowed, ids(3, TOKENS)
    mask = torch.ones_like(x)
    mask[0, :padding], mask[1, : padding // 2] = 0, 0
    pieces, _ = in_pieces(model, x, cuts, mask)
    whole = model(input_ids=x, attention_mask=mask).logits
    assert error(pieces, whole) <= 1e-10
    assert error(pieces[:1, padding:], model(input_ids=x[:1, padding:]).logits) <= 1e-10


@pytest.mark.parametrize("window", [None, 5])
def test_padding_inside_is_remembered(window: int | None) -> None:
    """A mask on any call, also long after the first."""
    model, x = tiny_model(window_size=window), ids(2, 40)
    mask = torch.ones_like(x)
    mask[0, 17:21], mask[1, 30] = 0, 0
    pieces, _ = in_pieces(model, x, [16, 18, 19, 25, 30, 31, 32, 33], mask)
    assert error(pieces, model(input_ids=x, attention_mask=mask).logits) <= 1e-10


def test_float32_steps_equal_the_whole() -> None:
    model, x = tiny_model(dtype=torch.float32, window_size=9), ids(2, 70)
    stepped, _ = in_pieces(model, x, list(range(1, 70)))
    assert error(stepped, model(input_ids=x).logits) <= 1e-5


def test_memory_stops_growing_at_the_window() -> None:
    model = tiny_model(window_size=100)
    cache, sizes = model.new_cache(2), []
    for _ in range(12):
        model(input_ids=ids(2, 17), cache=cache, compute_logits=False)
        sizes.append(cache.nbytes)
    assert sizes[0] < sizes[5] == sizes[-1]
    ring = cache.layers[2].ring
    assert ring.slots()[0].shape == (2, 2, 100, 8)
    assert cache.layers[0].ring is None
    expected = 4 * (3 * 2 * 3 * 16 + 2 * 2 * 8 * 8) * 8 + 2 * 2 * 2 * 2 * 100 * 8 * 8
    assert cache.nbytes == expected  # tails and states of four layers, keys and values of two


def test_the_trigger_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step's logits start from ones again, so the state has no room for them: one token is one token."""
    monkeypatch.setenv("NIRVANA_KERNELS", "trigger_update=naive")
    seen: list[Tensor] = []
    learn = naive.learn
    monkeypatch.setattr(
        naive, "learn", lambda k, v, logits, *rest: seen.append(logits[0]) or learn(k, v, logits, *rest)
    )
    model = tiny_model()
    cache = model.new_cache(1)
    for token in (3, 4):
        model(input_ids=torch.tensor([[token]]), cache=cache)
        assert bool((seen[-2] == 1).all())
        assert not bool((seen[-1] == 1).all())


def test_the_caller_keeps_the_input() -> None:
    """What the cache holds is its own: changing the input afterwards changes nothing."""
    model, x = tiny_model(window_size=4), noise(1, 6, 16)
    cache = model.new_cache(1)
    model(inputs_embeds=x, cache=cache)
    expected = model(inputs_embeds=noise(1, 12, 16)).logits
    x.fill_(7)
    assert expected.isfinite().all()
    again, _ = in_pieces(model, noise(1, 12, 16), [6])
    rest = model(inputs_embeds=noise(1, 12, 16)[:, 6:], cache=cache).logits
    assert torch.equal(rest, again[:, 6:])


def test_rows_can_be_reordered() -> None:
    model, x = tiny_model(window_size=7), ids(3, 30)
    mask = torch.ones_like(x)
    mask[1, :4] = 0
    _, cache = in_pieces(model, x, [11], mask)
    rows = torch.tensor([2, 1, 1, 0])
    cache.reorder(rows)
    assert cache.batch_size == 4
    new = ids(4, 5, seed=3)
    found = model(input_ids=new, cache=cache).logits
    padded = torch.cat([mask[rows], torch.ones_like(new)], dim=1)
    expected = model(input_ids=torch.cat([x[rows], new], dim=1), attention_mask=padded).logits[:, 30:]
    assert error(found, expected) <= 1e-10
    with pytest.raises(UsageError, match="0 to 3"):
        cache.reorder(torch.tensor([4]))


def test_last_logits_only() -> None:
    model, x = tiny_model(), ids(2, 9)
    whole = model(input_ids=x)
    last = model(input_ids=x, last_logits_only=True)
    assert last.logits.shape == (2, 1, 29)
    assert error(last.logits, whole.logits[:, -1:]) <= 1e-12
    assert torch.equal(last.final_hidden, whole.final_hidden)


def test_a_cache_carries_no_gradient() -> None:
    model = tiny_model()
    out = model(inputs_embeds=noise(1, 3, 16), cache=model.new_cache(1))
    assert not out.logits.requires_grad
    with pytest.raises(UsageError, match="detach it, or give no cache"):
        model(inputs_embeds=noise(1, 3, 16).requires_grad_(), cache=model.new_cache(1))


def test_a_foreign_cache_is_refused() -> None:
    model = tiny_model()
    with pytest.raises(UsageError, match="another configuration"):
        model(input_ids=ids(1, 3), cache=tiny_model(window_size=3).new_cache(1))
    with pytest.raises(UsageError, match="holds 2 sequences, the input 1"):
        model(input_ids=ids(1, 3), cache=model.new_cache(2))
    with pytest.raises(UsageError, match="batch_size is 0"):
        model.new_cache(0)


@given(pieces=st.lists(st.integers(1, 90), min_size=1, max_size=12), window=st.sampled_from([None, 1, 3, 64, 65, 150]))
def test_the_ring_holds_the_last_tokens(pieces: list[int], window: int | None) -> None:
    """Against a plain list: what is held, what a piece sees in front of it, in the right order."""
    ring, seen = KeyValueRing(window), torch.zeros(1, 1, 0, 1)
    for tokens in pieces:
        new = torch.arange(seen.shape[2], seen.shape[2] + tokens, dtype=torch.float32)[None, None, :, None]
        past = seen if window is None else seen[:, :, max(0, seen.shape[2] - window + 1) :]
        k, v, real = ring.before(new, -new, None)
        assert real is None
        assert torch.equal(k, torch.cat([past, new], dim=2))
        assert torch.equal(v, -k)
        ring.append(new, -new, None)
        seen = torch.cat([seen, new], dim=2)
        held, values, _ = ring.slots()
        assert torch.equal(held.flatten().sort().values, seen.flatten()[-(window or seen.shape[2]) :])
        assert torch.equal(values, -held)


def test_a_cache_prints_its_size() -> None:
    cache = tiny_model().new_cache(3)
    assert repr(cache) == "Cache(batch_size=3, tokens=0, 0.0 MiB)"
