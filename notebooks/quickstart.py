# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.0
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From a file to a picture to a score
#
# The whole path in Python: open raw k-space, look at what it is, reconstruct it from a quarter of its samples, see
# where the picture is wrong, score it by fastMRI's rule, save it. **Not for clinical use.**

# %%
import tempfile
from pathlib import Path

from IPython.display import Image

import nirvana_mri as nm
from nirvana_mri.figures import Panel, comparison, png
from nirvana_mri.report.demo import brain

folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## A scan
#
# With a fastMRI file of your own, put its path here and skip the simulation. Otherwise one is made from a real brain
# picture that comes with nibabel: eight coils, a smooth phase and noise are added, and whatever is made from it says
# "simulated". Its scores say less than those on measured k-space.

# %%
path = folder / "scan.h5"
pictures, source = brain()
nm.simulate(pictures[2:4], coils=8, noise=0.01, seed=0, voxel_mm=(6.6, 2, 2), out=path)
source

# %%
scan = nm.open_scan(path)
scan

# %% [markdown]
# Slices are read when they are asked for, never all at once: `scan.kspace[i]` is complex64, (coil, ny, nx).

# %%
scan.kspace[0].shape, scan.kspace[0].dtype

# %%
found = nm.inspect(scan)
print(found.sampling, "|", found.matrix, "|", found.coils, "coils |", f"signal to noise about {found.snr:.0f}")
for warning in found.warnings:
    print("warning:", warning)

# %% [markdown]
# ## Reconstruct
#
# `accelerate=4` leaves three quarters of the samples out, as a scan four times faster would; the same mask for every
# method. The model is `nano`, which comes with the package; `method` names a classical one to hold it against.

# %%
volumes = {
    "zero-filled": nm.reconstruct(scan, method="zero-filled", accelerate=4),
    "CG-SENSE": nm.reconstruct(scan, method="sense", accelerate=4),
    "nirvana": nm.reconstruct(scan, model="nano", accelerate=4),
}
volumes["nirvana"]

# %% [markdown]
# ## Score
#
# SSIM and PSNR by fastMRI's rule, against the fully sampled picture. A score carries its protocol: scores of
# different protocols must not be compared.

# %%
scores = {name: nm.evaluate(volume, scan) for name, volume in volumes.items()}
for name, score in scores.items():
    print(f"{name:12}  SSIM {score.ssim:.4f}   PSNR {score.psnr:.2f} dB   {score.acceleration:.2f}x")
scores["nirvana"].protocol

# %% [markdown]
# ## Look
#
# Above the pictures in one window, below five times their error.

# %%
panels = [
    Panel(name, volume.magnitude[1], f"SSIM {scores[name].ssim:.4f}   PSNR {scores[name].psnr:.2f} dB")
    for name, volume in volumes.items()
]
Image(data=png(comparison(panels, scan.reference[1])))

# %% [markdown]
# ## How strong should the model be?
#
# The dial goes from CG-SENSE, which knows the measurement alone (0), to the model's answer (1). The slice is solved
# once; turning the dial then takes milliseconds. Where the pictures differ, the model's training speaks, not this scan.
# With ipywidgets (`pip install 'nirvana-mri[notebook]'`) it becomes a slider:
#
# ```python
# from ipywidgets import interact
#
# def show(strength):
#     return Image(data=png(comparison([Panel("nirvana", dial.at(strength))], scan.reference[1])))
#
# interact(show, strength=(0, 1, 0.05))
# ```

# %%
dial = nm.strength_dial(scan, 1, model="nano", accelerate=4)
panels = [Panel(f"strength {strength}", dial.at(strength)) for strength in (0, 0.5, 1)]
Image(data=png(comparison(panels, scan.reference[1])))

# %% [markdown]
# ## How far can it be trusted?
#
# `trust=True` predicts measured lines that the method was not shown, and compares the miss with the noise (1 is as good
# as the noise allows); and it tells how much of the picture's energy was invented rather than measured. `volume.maps`
# shows where.

# %%
trusted = nm.reconstruct(scan, model="nano", accelerate=4, trust=True)
trust = trusted.provenance["trust"]
print(f"residual {trust['residual_over_noise']:.2f} times the noise, {trust['null_space_fraction']:.1%} invented")

# %% [markdown]
# ## Save
#
# The file has the layout of a fastMRI submission, and says how it was made: method, model by its hash, sampling.

# %%
saved = nm.save(volumes["nirvana"], folder / "recon.h5")
{key: volumes["nirvana"].provenance[key] for key in ("method", "model", "model_sha256", "sampling", "notice")}

# %% [markdown]
# The same from a shell:
#
# ```sh
# nirvana-mri reconstruct scan.h5 -o recon.h5 --accelerate 4
# nirvana-mri evaluate recon.h5 --target scan.h5
# ```
