"""Small, valid files of every format, and the real ones of the shared data: what fuzzing damages.

Tests import it as ``fuzz_samples``.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import scipy.io
from dicom_support import enhanced, item, pixels, save, single, write_series
from fuzz_support import Sample
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian, RLELossless
from written import volume

from nirvana_mri.io.fastmri import write_fastmri
from nirvana_mri.io.save import save as save_volume


def made_samples(folder: Path) -> list[Sample]:
    """Small, valid files of every format, each as its writer leaves it; what needs a missing library is left out."""
    made = [*_hdf5(folder), *_arrays(folder), *_pictures(folder), *_dicom(folder), *_written(folder)]
    return [*made, _cfl(), *_twix(folder)]


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def _noise(*shape: int) -> Any:

    rng = np.random.default_rng(1)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


def _hdf5(folder: Path) -> list[Sample]:

    kspace = _noise(3, 2, 24, 20)
    pictures = np.abs(kspace[:, 0, :18, :18])
    mask = np.arange(20) % 2 == 0
    plain = write_fastmri(
        folder / "a.h5", kspace, mask=mask, reference=pictures, voxel_mm=(5.0, 0.7, 0.7), crop=(18, 18)
    )
    packed = write_fastmri(folder / "b.h5", kspace, voxel_mm=(5.0, 0.7, 0.7), padding=(1, 19))
    with h5py.File(packed, "a") as file:
        del file["kspace"]
        file.create_dataset("kspace", data=kspace, chunks=(1, 2, 24, 20), compression="gzip", shuffle=True)
        file.attrs["acquisition"] = "AXT2"
    made = [Sample("fastMRI", {"scan.h5": plain.read_bytes()}, "scan.h5")]
    made.append(Sample("fastMRI packed", {"scan.h5": packed.read_bytes()}, "scan.h5"))
    return made + _ismrmrd(folder)


def _ismrmrd(folder: Path) -> list[Sample]:
    if find_spec("ismrmrd") is None:
        return []
    from mrd_support import NOISE, Line, encoding_xml, header_xml, lines_of, write_mrd

    plane, slab = _noise(2, 16, 16), _noise(4, 2, 16, 16)
    stack = [Line(plane[:, :, 0], flags=(NOISE,), center=0)]
    for number in range(2):
        place = {"idx": {"slice": number}, "position": (0.0, 0.0, 5.0 * number)}
        stack += lines_of(plane, directions=((1, 0, 0), (0, 1, 0), (0, 0, 1)), **place)
    xml = header_xml(encoding_xml((16, 16, 1)))
    first = write_mrd(folder / "c.h5", xml, stack).read_bytes()
    lines = [line for n in range(4) for line in lines_of(slab[n], idx={"kspace_encode_step_2": n})]
    xml = header_xml(encoding_xml((16, 16, 4), (12, 16, 4), mode="embedded"))
    second = write_mrd(folder / "d.h5", xml, lines).read_bytes()
    return [
        Sample("ISMRMRD stack", {"scan.h5": first}, "scan.h5"),
        Sample("ISMRMRD slab", {"scan.h5": second}, "scan.h5"),
    ]


def _arrays(folder: Path) -> list[Sample]:

    values = _noise(2, 20, 16)
    axes = {"axes": "coil ny nx"}
    np.save(folder / "a.npy", values)
    np.savez(folder / "a.npz", kspace=values)
    np.savez_compressed(folder / "b.npz", kspace=values, mask=np.ones(16))
    scipy.io.savemat(folder / "a.mat", {"kspace": values})
    scipy.io.savemat(folder / "b.mat", {"kspace": values.astype(np.complex128), "x": np.eye(3)}, do_compression=True)
    with h5py.File(folder / "c.mat", "w", userblock_size=512) as file:
        paired = np.empty(values.shape[::-1], [("real", "f4"), ("imag", "f4")])
        paired["real"], paired["imag"] = values.T.real, values.T.imag
        file.create_dataset("kspace", data=paired, chunks=(16, 20, 1), compression="gzip")
    with (folder / "c.mat").open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(116) + bytes(8) + b"\0\2IM")
    made = [
        Sample(f"array {name}", {name: (folder / name).read_bytes()}, name, axes)
        for name in ("a.npy", "a.npz", "a.mat", "b.mat", "c.mat")
    ]
    made.append(
        Sample("array b.npz", {"b.npz": (folder / "b.npz").read_bytes()}, "b.npz", axes | {"dataset": "kspace"})
    )
    return made


def _pictures(folder: Path) -> list[Sample]:

    values = np.random.default_rng(2).integers(0, 900, (16, 18, 3)).astype(np.int16)
    affine = np.diag([-1.0, 1.5, 4.0, 1.0])
    series = np.stack([values, values + 1], axis=-1)
    nibabel.save(nibabel.Nifti1Image(values, affine), folder / "a.nii")
    nibabel.save(nibabel.Nifti1Image(series.astype(np.float32), affine), folder / "b.nii.gz")
    nibabel.save(nibabel.Nifti2Image(values, affine), folder / "c.nii")
    return [
        Sample(f"NIfTI {name}", {name: (folder / name).read_bytes()}, name) for name in ("a.nii", "b.nii.gz", "c.nii")
    ]


def _dicom(folder: Path) -> list[Sample]:
    def larger(made: Dataset, number: int, volume: int) -> Dataset:
        made.Rows, made.Columns = 18, 16
        made.PixelData = pixels(number + 10 * volume, (18, 16)).tobytes()
        return made

    series = write_series(folder / "series", slices=4, change=larger)
    implicit = single(0, 1)
    implicit.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    multi = enhanced(slices=2, volumes=2)
    multi.Rows, multi.Columns = 18, 16
    multi.PixelData = b"".join(pixels(number, (18, 16)).tobytes() for number in range(4))
    multi.private_block(0x09, "MAKER", create=True).add_new(1, "SQ", [item(Modality="MR")])
    made = [
        Sample("DICOM series", _bytes(series), damaged=("0001.dcm", "0002.dcm")),
        Sample("DICOM of a series", _bytes(series), "0001.dcm", damaged=("0001.dcm",)),
        Sample("DICOM enhanced", {"x.dcm": save(multi, folder / "e.dcm").read_bytes()}, "x.dcm"),
        Sample("DICOM reference", _bytes(series), reader="reference", damaged=("0001.dcm",)),
        Sample("DICOM implicit", {"x.dcm": save(larger(implicit, 1, 0), folder / "i.dcm").read_bytes()}, "x.dcm"),
    ]
    multi.compress(RLELossless)
    made.append(Sample("DICOM packed", {"x.dcm": save(multi, folder / "p.dcm").read_bytes()}, "x.dcm"))
    return made


def _written(folder: Path) -> list[Sample]:
    """What the toolkit writes, and reads again; and the user's masks."""
    save_volume(volume((3, 18, 16)), folder / "v.h5")
    save_volume(volume((3, 18, 16)), folder / "v.nii.gz")
    np.save(folder / "m.npy", np.arange(20) % 2 == 0)
    with h5py.File(folder / "m.h5", "w") as file:
        file["mask"] = np.arange(20) % 2 == 0
    sidecar = {name: (folder / name).read_bytes() for name in ("v.nii.gz", "v.json")}
    return [
        Sample("reconstruction h5", {"v.h5": (folder / "v.h5").read_bytes()}, "v.h5", reader="volume"),
        Sample("reconstruction NIfTI", sidecar, "v.nii.gz", reader="volume"),
        Sample("mask npy", {"m.npy": (folder / "m.npy").read_bytes()}, "m.npy", reader="mask"),
        Sample("mask h5", {"m.h5": (folder / "m.h5").read_bytes()}, "m.h5", reader="mask"),
    ]


def _cfl() -> Sample:
    values = _noise(20, 16, 1, 2)
    header = b"# Dimensions\n20 16 1 2 1 1 1 1 1 1 1 1 1 1 1 1 \n# Command\nphantom -k -s 2 x \n"
    return Sample("BART cfl", {"x.hdr": header, "x.cfl": values.ravel(order="F").tobytes()}, "x.cfl")


def _twix(folder: Path) -> list[Sample]:
    if find_spec("twixtools") is None:
        return []
    from twix_support import header, image, line, marker, samples, write

    kspace = samples(2, 32, 12)
    tall = header({"sKSpace.lBaseResolution": "16", "alTR[0]": "2500000"})
    lines = [line(samples(2, 64), "NOISEADJSCAN"), marker("SYNCDATA", b"DATA" * 10), *image(kspace)]
    first = write(folder / "d.dat", lines, head=tall).read_bytes()
    second = write(folder / "b.dat", image(kspace, vb=True), vb=True).read_bytes()
    return [Sample("twix VD", {"x.dat": first}, "x.dat"), Sample("twix VB", {"x.dat": second}, "x.dat")]


PLANE = {"axes": "ny nx coil"}
KSPACE = {  # the files, what is opened, and how
    "espirit": ("brain8_espirit_und2x2.cfl", "brain8_espirit_und2x2.hdr"),
    "workshop": ("brain8_bartworkshop_poisson.hdr", "brain8_bartworkshop_poisson.cfl"),
    "radial": ("brick16_radial_bottom_SP69.cfl", "brick16_radial_bottom_SP69.hdr"),
    "gre": ("phantom2_twix_gre.dat",),
    "epi": ("phantom2_twix_epi.dat",),
    "prescan": ("brain16_iraki_prescan64.npy",),
    "sigpy": ("brain8_sigpy_poisson.npy",),
    "kdata": ("phantom16_epi_kdata.mat",),
    "refscan": ("phantom16_epi_refscan.mat",),
    "spike": ("phantom1_spike.mat",),
    "coil images": ("phantom8_coilimages.mat",),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "prescan": {"axes": "coil ny nx"},
    "sigpy": {"axes": "coil ny nx"},
    "kdata": PLANE,
    "refscan": PLANE,
    "spike": {"axes": "ny nx"},
    "coil images": {"axes": "nx ny coil", "images": True},
}


def real_samples(data: Path) -> list[Sample]:
    """The real files of the shared data, of DICOM a few files of each series."""
    kspace = data / "kspace"
    made = [
        Sample(f"real {name}", {file: (kspace / file).read_bytes() for file in files}, files[0], OPTIONS.get(name, {}))
        for name, files in KSPACE.items()
        if all((kspace / file).is_file() for file in files)
    ]
    if (tubes := kspace / "bruker_tubes1_100").is_dir():
        made.append(Sample("real Bruker", _bytes(tubes)))
    for path in sorted((data / "volumes").glob("*.nii.gz")):
        made.append(Sample(f"real {path.name}", {path.name: path.read_bytes()}, path.name))
    return [*made, *_real_dicom(data / "dicom")]


def _real_dicom(folder: Path) -> Iterator[Sample]:
    for archive in sorted(folder.glob("*.tar.xz")):
        with tarfile.open(archive) as packed:
            members = sorted(
                (m for m in packed.getmembers() if m.name.endswith(".dcm")), key=lambda member: member.name
            )
            single = {f"{n}.dcm": packed.extractfile(m).read() for n, m in enumerate(members[:3])}  # type: ignore[union-attr]
            large = packed.extractfile(members[-1]).read()  # type: ignore[union-attr]
        yield Sample(f"real {archive.name}", single, "0.dcm", damaged=("0.dcm",))
        yield Sample(f"real {archive.name}, last", {"x.dcm": large}, "x.dcm")
