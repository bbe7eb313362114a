"""Draw where a model fails, for its card: the demonstration brain's worst slice at 8x, and a small faint lesion at 4x.

python scripts/failure_pictures.py nano nirvana_mri/weights

Leaves MODEL-8x.png and MODEL-lesion.png.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.eval.metrics import ssim_each
from nirvana_mri.eval.stress.lesions import disc, even_place
from nirvana_mri.eval.target import open_target
from nirvana_mri.figures import Panel, comparison, save_png
from nirvana_mri.recon.batch import Recipe
from nirvana_mri.recon.simulate import simulate
from nirvana_mri.report.demo import VOXEL_MM, brain
from nirvana_mri.scan import Scan

METHODS = {"sense": "CG-SENSE", "wavelet": "L1-wavelet", "nirvana": "nirvana"}
DIAMETER, CONTRAST, WINDOW = 3.0, 0.2, 20  # of the lesion, in pixels; the window is half a side of what is shown
Pictures = NDArray[np.float32]


def reconstructed(scan: Scan, model: str, acceleration: float) -> dict[str, Pictures]:
    """By method, ``[slice ny nx]``; "target" is the fully sampled one."""
    found: dict[str, Pictures] = {"target": open_target(scan).volume(tuple(range(scan.shape[0])))}
    for method in METHODS:
        recipe = Recipe(method=method, model=model, accelerate=acceleration, center_fraction=0.32 / acceleration)
        found[method] = recipe.apply(scan).magnitude
    return found


def worst_slice(scan: Scan, model: str, target: Path) -> None:
    found = reconstructed(scan, model, 8)
    true = found.pop("target")
    scores = {name: ssim_each(true, pictures) for name, pictures in found.items()}
    worst = int(np.argmin(scores["nirvana"]))
    panels = [Panel(METHODS[name], x[worst], f"SSIM {scores[name][worst]:.3f}") for name, x in found.items()]
    title = f"{model} at 8x, the demonstration's worst slice (simulated k-space, 8 coils)"
    save_png(comparison(panels, true[worst], title), target)


def small_lesion(pictures: Pictures, model: str, target: Path) -> None:
    place = even_place(pictures[0])
    spot = 1 + CONTRAST * disc(pictures.shape[1:], place, DIAMETER).numpy()
    both = [
        reconstructed(simulate(each, coils=8, seed=0, voxel_mm=VOXEL_MM, name="lesion"), model, 4)
        for each in (pictures, pictures * spot)
    ]
    window = (slice(0, 1), *(slice(max(0, at - WINDOW), at + WINDOW) for at in place))
    inside = disc(pictures.shape[1:], place, DIAMETER).numpy() > 0.5
    made = {name: float((both[1][name] - both[0][name])[0][inside].mean()) for name in both[0]}
    panels = [
        Panel(METHODS[name], both[1][name][window][0], f"{made[name] / made['target']:.0%} of the contrast kept")
        for name in METHODS
    ]
    title = f"{model} at 4x: a lesion of {DIAMETER:g} pixels, +{CONTRAST:.0%}, in the middle (simulated)"
    save_png(comparison(panels, both[1]["target"][window][0], title), target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    pictures = brain()[0]
    name = Path(options.model).stem
    scan = simulate(pictures, coils=8, seed=0, voxel_mm=VOXEL_MM, name="demonstration brain")
    worst_slice(scan, options.model, options.folder / f"{name}-8x.png")
    small_lesion(pictures[3:4], options.model, options.folder / f"{name}-lesion.png")


if __name__ == "__main__":
    main()
