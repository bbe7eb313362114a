"""Data crimes (Shimron et al. 2022, PNAS 119 e2117203119) that flatter a score are caught, by name."""

import json

import numpy as np
import pytest
from support import centred_ifft2
from tiny import head

import nirvana_mri as nm
from nirvana_mri.errors import ProtocolError
from nirvana_mri.eval.explain import explain, require_comparable
from nirvana_mri.eval.run import evaluate_files
from nirvana_mri.eval.scores_file import read_scores
from nirvana_mri.io.fastmri import write_fastmri


def from_magnitudes(kspace):
    shifted = np.fft.ifftshift(np.abs(centred_ifft2(kspace)), axes=(-2, -1))
    return np.fft.fftshift(np.fft.fft2(shifted, norm="ortho"), axes=(-2, -1))


@pytest.mark.parametrize(
    ("name", "crime"),
    [
        (None, lambda kspace: kspace),
        ("zero-padding", lambda kspace: np.pad(kspace, ((0, 0), (0, 0), (0, 0), (12, 12)))),
        ("magnitude-born", from_magnitudes),
    ],
)
def test_inspect_names_the_crime(tmp_path, name, crime):
    kspace = np.stack(list(nm.simulate(head(96, 80, 3), coils=4, noise=0.01, seed=5).kspace))
    path = write_fastmri(tmp_path / "scan.h5", crime(kspace).astype(np.complex64))
    found = {finding["name"] for finding in nm.inspect(nm.open_scan(path)).as_dict()["findings"]}
    assert found & {"zero-padding", "magnitude-born"} == ({name} if name else set())


def test_the_data_range_is_caught_by_its_protocol(tmp_path):
    """SSIM with a data range of 1 on raw-scale intensities is nearly 1, whatever the picture."""
    from h5py import File
    from skimage.metrics import structural_similarity

    random = np.random.default_rng(0)
    target = (1e-4 * random.random((1, 32, 32))).astype(np.float32)
    prediction = target + 2e-5 * random.normal(size=target.shape).astype(np.float32)
    for name, key, pictures in (("t", "reconstruction_rss", target), ("p", "reconstruction", prediction)):
        with File(tmp_path / f"{name}.h5", "w") as file:
            file[key] = pictures
    honest = evaluate_files(tmp_path / "p.h5", tmp_path / "t.h5").as_dict()
    claimed = json.loads(json.dumps(honest))
    claimed["protocol"]["data_range"] = "1"
    claimed["volumes"][0]["ssim"] = structural_similarity(target[0], prediction[0], data_range=1.0)
    assert claimed["volumes"][0]["ssim"] > 0.999 > honest["volumes"][0]["ssim"] + 0.1
    for name, content in (("honest", honest), ("claimed", claimed)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    pair = read_scores(tmp_path / "honest.json"), read_scores(tmp_path / "claimed.json")
    with pytest.raises(ProtocolError, match="data_range"):
        require_comparable(*pair)
    assert "data_range" in explain(*pair)[1]
