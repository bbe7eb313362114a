"""Every stress by its name. A new one is a function in a file of its own and a line here."""

from nirvana_mri.errors import UsageError
from nirvana_mri.eval.stress.acceleration import ACCELERATION
from nirvana_mri.eval.stress.adversarial import ADVERSARIAL
from nirvana_mri.eval.stress.bias import BIAS
from nirvana_mri.eval.stress.coils import COIL_DROP
from nirvana_mri.eval.stress.lesions import LESIONS
from nirvana_mri.eval.stress.more_samples import MORE_SAMPLES
from nirvana_mri.eval.stress.motion import MOTION, ROTATION
from nirvana_mri.eval.stress.noise import NOISE
from nirvana_mri.eval.stress.shift import SHIFT
from nirvana_mri.eval.stress.stress import Stress
from nirvana_mri.eval.stress.wrong_mask import WRONG_MASK

STRESSES: dict[str, Stress] = {
    "noise": NOISE,
    "shift": SHIFT,
    "coil-drop": COIL_DROP,
    "wrong-mask": WRONG_MASK,
    "more-samples": MORE_SAMPLES,
    "acceleration": ACCELERATION,
    "motion": MOTION,
    "rotation": ROTATION,
    "bias": BIAS,
    "adversarial": ADVERSARIAL,
    "lesions": LESIONS,
}


def chosen(names: str | None) -> dict[str, Stress]:
    """The stresses named, comma by comma, in the table's order; all for None. Raises: UsageError with the names."""
    if names is None:
        return STRESSES
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in STRESSES]
    if unknown or not wanted:
        what = repr(unknown[0]) if unknown else "nothing"
        raise UsageError(f"{what} is no stress; choose among: {', '.join(STRESSES)}")
    return {name: stress for name, stress in STRESSES.items() if name in wanted}
