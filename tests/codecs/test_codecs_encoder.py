import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nirvana_mri.codecs import KSpaceEncoder, KSpaceEncoderConfig
from nirvana_mri.codecs.kspace_encoder import log_magnitude, patch_states
from nirvana_mri.codecs.label_map import FINE, LabelMap, Speaker
from nirvana_mri.codecs.vit import STEMS, VisionTransformer, sine_cosine_positions
from nirvana_mri.errors import UsageError


@given(ny=st.integers(5, 70), nx=st.integers(5, 70), stem=st.sampled_from(STEMS))
def test_any_size_is_tiled_by_whole_patches_between_begin_and_end(ny: int, nx: int, stem: str) -> None:
    torch.manual_seed(0)
    encoder = KSpaceEncoder(KSpaceEncoderConfig(24, width=16, depth=1, heads=2, stem=stem))
    tokens, (rows, columns) = encoder(torch.randn(2, ny, nx, dtype=torch.complex64), torch.rand(2, ny, nx))
    assert (rows, columns) == (-(-ny // 16), -(-nx // 16))
    assert tokens.shape == (2, rows * columns + 2, 24)
    torch.testing.assert_close(tokens[0, 0], encoder.begin)
    torch.testing.assert_close(tokens[1, -1], encoder.end)
    assert torch.equal(patch_states(tokens, (rows, columns)).flatten(1, 2), tokens[:, 1:-1])


@pytest.mark.parametrize("stem", STEMS)
def test_slices_of_a_batch_do_not_see_each_other(stem: str) -> None:
    torch.manual_seed(0)
    vit = VisionTransformer(3, 16, 16, 2, 2, stem)
    pictures = torch.randn(3, 3, 40, 33)
    torch.testing.assert_close(vit(pictures)[1], vit(pictures[1:2])[0])


def test_positions_differ_everywhere_and_agree_about_the_centre() -> None:
    small, large = sine_cosine_positions(5, 7, 32), sine_cosine_positions(9, 11, 32)
    flat = large.flatten(0, 1)
    distances = torch.cdist(flat, flat) + 10 * torch.eye(len(flat))
    assert distances.min() > 0.1
    torch.testing.assert_close(small, large[2:7, 2:9])


@given(power=st.integers(-30, 30), alpha=st.floats(0.1, 10))
def test_log_magnitude_ignores_scale(power: int, alpha: float) -> None:
    kspace = torch.randn(3, 8, 12, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    mask = torch.arange(12) % 3 != 1
    reference = log_magnitude(kspace, mask)
    assert torch.equal(log_magnitude(kspace * 2.0**power, mask), reference)
    torch.testing.assert_close(log_magnitude(kspace * alpha, mask), reference, rtol=1e-4, atol=1e-5)
    assert float(reference.max()) == 1
    assert torch.equal(reference[:, ~mask], torch.zeros(8, int((~mask).sum())))


def test_log_magnitude_does_not_look_at_unmeasured_samples() -> None:
    kspace = torch.randn(2, 6, 9, dtype=torch.complex64)
    mask = torch.rand(6, 9) < 0.5
    poisoned = torch.where(mask, kspace, torch.full_like(kspace, torch.nan))
    assert torch.equal(log_magnitude(poisoned, mask), log_magnitude(kspace, mask))


def test_a_width_that_positions_cannot_fill_is_refused() -> None:
    with pytest.raises(UsageError, match="encoder width 20"):
        KSpaceEncoderConfig(32, width=20, heads=4)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"stem": "pooling"}, "stem 'pooling'; expected one of linear, convolutions"),
        ({"stem": "convolutions", "patch": 12}, "patch 12; .* power of two"),
        ({"labels": -1}, "-1 labels"),
        ({"told": 0}, "0 tokens"),
    ],
)
def test_an_encoder_that_cannot_be_made_is_refused(changes: dict[str, int | str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        KSpaceEncoderConfig(32, width=32, **changes)  # type: ignore[arg-type]


def test_knowing_labels_changes_nothing_of_what_the_decoder_is_told() -> None:
    torch.manual_seed(0)
    plain = KSpaceEncoder(KSpaceEncoderConfig(24, width=16, depth=1, heads=2))
    knowing = KSpaceEncoder(KSpaceEncoderConfig(24, width=16, depth=1, heads=2, labels=3))
    missing, unexpected = knowing.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert {name.split(".")[0] for name in missing} == {"sight", "speaker"}
    picture = torch.randn(1, 40, 50, dtype=torch.complex64), torch.rand(1, 40, 50)
    assert torch.equal(knowing(*picture)[0], plain(*picture)[0])


@given(
    side=st.integers(5, 20).map(lambda n: 16 * n),
    margin=st.integers(0, 2).map(lambda n: 16 * n),
    place=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
    label=st.integers(0, 2),
)
def test_a_label_lies_in_the_cells_where_its_patch_is(
    side: int, margin: int, place: tuple[float, float], label: int
) -> None:
    """One patch says one label: of a picture cut to its centre, the cells that it covers and no others hear of it."""
    sight = LabelMap(4, 16, 3, 16)
    with torch.no_grad():
        sight.read.weight.zero_()
        sight.read.weight[label * FINE**2 : (label + 1) * FINE**2, 0] = 1
    crop = side - 2 * margin
    row, column = (int(part * side / 16) for part in place)
    patches = torch.zeros(1, side // 16, side // 16, 4)
    patches[0, row, column, 0] = 100
    heard = sight(patches, (side, side), (crop, crop))[0] > sight.read.bias[0] + 0.01
    edges = [(cell * crop / 16, (cell + 1) * crop / 16) for cell in range(16)]
    rows, columns = (
        [top < 16 * (at + 1) - margin - 3.9 and bottom > 16 * at - margin + 3.9 for top, bottom in edges]
        for at in (row, column)
    )
    covered = torch.tensor(rows)[:, None] & torch.tensor(columns)[None]
    near = torch.nn.functional.max_pool2d(covered[None].float(), 3, 1, 1)[0] > 0
    assert bool((heard[label] | ~covered).all())
    assert bool((near | ~heard[label]).all()) or not bool(covered.any())  # a patch that the cut leaves a rim of
    assert not bool(heard[[n for n in range(3) if n != label]].any())


def test_the_speaker_is_shown_the_map_and_its_rows_and_columns() -> None:
    speaker = Speaker(2, 16, 3, 24)
    shown = []
    speaker.layers[0].register_forward_pre_hook(lambda _, given: shown.append(given[0][0]))
    likelihoods = torch.zeros(1, 2, 16, 16)
    likelihoods[0, 1, 5, 9] = 0.8
    assert speaker(likelihoods).shape == (1, 3, 24)
    whole, columns, rows = shown[0].split([2 * 256, 2 * 16, 2 * 16])
    assert whole.nonzero().tolist() == [[256 + 5 * 16 + 9]]
    assert columns.nonzero().tolist() == [[16 + 9]]
    assert rows.nonzero().tolist() == [[16 + 5]]
    assert torch.equal(shown[0][shown[0] > 0], torch.tensor([0.4, 0.8, 0.8]))
