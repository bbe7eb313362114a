"""Lint of whole scans: clean ones, real ones among them, give no finding; each crime gives its own."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import brain8, write_brain8
from tiny import head, tiny_scan

import nirvana_mri as nm
from nirvana_mri.errors import UsageError
from nirvana_mri.io.fastmri import write_fastmri
from nirvana_mri.physics.masks import make_mask
from nirvana_mri.report.lint import CLOSE, evenly, lint
from nirvana_mri.scan import Scan

Change = Callable[[np.ndarray], np.ndarray]


def scan_of(kspace: np.ndarray, **more: object) -> Scan:
    """As if measured."""
    kspace = kspace.astype(np.complex64)
    ny, nx = kspace.shape[-2:]
    return Scan("test", kspace, np.ones(nx, bool), (ny, nx), **more)


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    return np.stack(list(nm.simulate(head(96, 80, 3), coils=4, noise=0.01, seed=5).kspace))


def names(scan: Scan) -> dict[str, str]:
    return {finding.name: finding.severity for finding in lint(scan).findings}


def transform(images: np.ndarray) -> np.ndarray:
    shifted = np.fft.ifftshift(images, axes=(-2, -1))
    return np.fft.fftshift(np.fft.fft2(shifted, norm="ortho"), axes=(-2, -1))


def picture_of(kspace: np.ndarray) -> np.ndarray:
    shifted = np.fft.ifftshift(kspace, axes=(-2, -1))
    return np.fft.fftshift(np.fft.ifft2(shifted, norm="ortho"), axes=(-2, -1))


def eight_bits(kspace: np.ndarray) -> np.ndarray:
    """Coil images whose magnitudes have 256 levels, and their own phase."""
    images = picture_of(kspace)
    sizes = np.abs(images)
    return transform(np.round(sizes / sizes.max() * 255) * np.exp(1j * np.angle(images)))


def clipped(kspace: np.ndarray) -> np.ndarray:
    limit = 0.4 * np.abs(kspace.real).max()
    return np.clip(kspace.real, -limit, limit) + 1j * np.clip(kspace.imag, -limit, limit)


def spiked(kspace: np.ndarray) -> np.ndarray:
    kspace = kspace.copy()
    kspace[1, :, 12, 70] += 0.2 * np.abs(kspace).max()
    return kspace


CRIMES: dict[str, tuple[str, Change]] = {
    "zero-padding": ("warning", lambda k: np.pad(k, ((0, 0), (0, 0), (0, 0), (16, 16)))),
    "magnitude-born": ("error", lambda k: transform(np.abs(picture_of(k)))),
    "quantised": ("error", eight_bits),
    "duplicate-coils": ("warning", lambda k: np.concatenate([k, 2j * k[:, 2:3]], axis=1)),
    "spike": ("warning", spiked),
    "clipping": ("warning", clipped),
    "dc-offset": ("warning", lambda k: k + 0.002 * np.abs(k).max()),
    "wrapped": ("warning", lambda k: k[..., ::2]),
}


def test_a_clean_scan_has_no_findings(clean: np.ndarray) -> None:
    assert names(scan_of(clean)) == {}
    assert names(nm.simulate(head(96, 80, 2), coils=1, noise=0.02)) == {}


@pytest.mark.parametrize("crime", CRIMES)
def test_each_crime_is_found_and_named(crime: str, clean: np.ndarray) -> None:
    severity, commit = CRIMES[crime]
    found = names(scan_of(commit(clean)))
    assert found.get(crime) == severity
    # clipping the strongest samples darkens the object against what was left at its edges
    assert set(found) <= {crime, *(("wrapped",) if crime == "clipping" else ())}


@given(st.sampled_from(sorted(CRIMES)), st.floats(-8, 8), st.permutations(range(4)))
def test_findings_depend_on_neither_scale_nor_order(crime: str, exponent: float, order: list[int]) -> None:
    kspace = np.stack(list(nm.simulate(head(96, 80, 2), coils=4, noise=0.01, seed=5).kspace))
    spoilt = CRIMES[crime][1](kspace)
    order = [*order, *range(4, spoilt.shape[1])]
    assert names(scan_of(10**exponent * spoilt[:, order])) == names(scan_of(spoilt))


def test_undersampling_is_no_crime_and_hides_none(clean: np.ndarray) -> None:
    for kind in ("equispaced", "random"):
        mask = make_mask(kind, (96, 80), 3, 0.2, seed=1)
        under = replace(scan_of(np.where(mask, clean, 0)), acquired=mask)
        assert names(under) == {}
        assert "wrapped" in lint(under).not_judged
        for crime in ("magnitude-born", "duplicate-coils", "dc-offset"):
            spoilt = scan_of(np.where(mask, CRIMES[crime][1](clean), 0))
            assert crime in names(replace(spoilt, acquired=mask)), crime


def test_declared_padding_is_no_crime(clean: np.ndarray, tmp_path: Path) -> None:
    padded = scan_of(CRIMES["zero-padding"][1](clean))
    padded = replace(padded, acquired=np.pad(np.ones(80, bool), 16))
    assert names(padded) == {"zero-padding": "warning"}
    declared = {"padding_left": 16, "padding_right": 96, "encoding_size": (96, 112, 1)}
    assert names(replace(padded, metadata=declared)) == {}
    assert names(replace(padded, metadata={**declared, "padding_left": 6})) == {}, "one side only is partial Fourier"
    wider = {**declared, "padding_left": 6, "padding_right": 106}
    assert names(replace(padded, metadata=wider)) == {"zero-padding": "warning"}
    assert names(replace(padded, file_format="ISMRMRD h5")) == {}, "its lines say where they go"


def test_zero_rows_are_padding_too(clean: np.ndarray) -> None:
    rows = scan_of(np.pad(clean, ((0, 0), (0, 0), (8, 8), (0, 0))))
    finding = lint(rows).findings[0]
    assert finding.name == "zero-padding"
    assert "8 rows" in finding.message


def test_a_simulated_scan_may_be_what_it_says(clean: np.ndarray) -> None:
    assert names(scan_of(CRIMES["magnitude-born"][1](clean), simulated=True)) == {"magnitude-born": "info"}


def test_a_spike_in_one_slice_of_many_is_found() -> None:
    kspace = np.concatenate([tiny_scan(slices=3).kspace[i][None] for i in (0, 1, 2)] * 8)
    kspace[17, :, 4, 50] += np.abs(kspace).max()
    found = lint(scan_of(kspace))
    assert [finding.name for finding in found.findings] == ["spike"]
    assert "slice 17" in found.findings[0].message
    assert len(found.slices_inspected) == CLOSE
    assert found.slices_screened == tuple(range(24))


def test_empty_coils_are_named(clean: np.ndarray) -> None:
    clean = clean.copy()
    clean[:, 1] = 0
    assert lint(scan_of(clean)).empty_coils == (1,)
    assert any("coil 1" in note for note in nm.inspect(scan_of(clean)).warnings)


def test_progress_reaches_the_end(clean: np.ndarray) -> None:
    told: list[tuple[int, int]] = []
    lint(scan_of(clean), lambda done, total: told.append((done, total)))
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]


@given(st.integers(1, 300), st.integers(1, 40))
def test_slices_are_spread_evenly(count: int, most: int) -> None:
    taken = evenly(count, most)
    assert len(taken) == min(count, most)
    assert len(set(taken)) == len(taken)
    assert 0 <= taken[0] <= taken[-1] < count


def test_an_open_scan_takes_no_options(clean: np.ndarray) -> None:
    with pytest.raises(UsageError, match="volume"):
        nm.inspect(scan_of(clean), volume=1)


def test_a_real_scan_with_a_spike(shared_data: Path) -> None:
    found = nm.inspect(shared_data / "kspace" / "phantom1_spike.mat", axes="ny nx")
    assert [finding.name for finding in found.findings] == ["spike"]


@pytest.mark.parametrize(
    ("file", "options"),
    [
        ("brain8_espirit_full.cfl", {}),
        ("brain8_espirit_und2x2.cfl", {}),
        ("brain8_bartworkshop_poisson.cfl", {}),
        ("brain8_sigpy_poisson.npy", {"axes": "coil ny nx"}),
        ("brain16_iraki_prescan64.npy", {"axes": "coil ny nx"}),
        ("phantom8_coilimages.mat", {"axes": "ny nx coil", "images": True}),
        ("phantom2_twix_gre.dat", {}),
        ("phantom2_twix_epi.dat", {}),
    ],
)
def test_real_clean_scans_give_no_findings(shared_data: Path, file: str, options: dict[str, object]) -> None:
    if file.endswith(".dat"):
        pytest.importorskip("twixtools")
    found = nm.inspect(shared_data / "kspace" / file, **options)
    assert found.findings == ()
    assert found.raw


@pytest.mark.parametrize(
    ("file", "wanted"),
    [
        ("siemens_skyra_adult_t2_5mm", {"magnitude-born"}),
        ("inia19-t1-brain", {"magnitude-born"}),
        ("MR_Gd", {"magnitude-born", "quantised"}),  # stored as uint8
        ("torchio_t2", {"magnitude-born", "zero-padding"}),  # its spectrum ends 37 columns before the matrix does
    ],
)
def test_real_pictures(shared_data: Path, file: str, wanted: set[str]) -> None:
    found = nm.inspect(shared_data / "volumes" / f"{file}.nii.gz")
    assert {finding.name for finding in found.findings} == wanted
    assert not found.raw
    assert found.worst() in ("info", "warning")


def test_crimes_on_a_real_brain(shared_data: Path, tmp_path: Path) -> None:
    kspace = brain8(shared_data)[None]
    assert nm.inspect(write_brain8(shared_data, tmp_path / "brain.h5")).findings == ()
    for crime, (severity, commit) in CRIMES.items():
        if crime == "spike":
            continue  # of the three slices' middle one
        write_fastmri(tmp_path / "bad.h5", commit(kspace).astype(np.complex64))
        found = nm.inspect(tmp_path / "bad.h5")
        assert {(f.name, f.severity) for f in found.findings} >= {(crime, severity)}, crime
