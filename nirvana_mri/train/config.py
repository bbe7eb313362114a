"""What a training run is made of."""

import math
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nirvana_mri.errors import UsageError

STAGES = ("encoder", "decoder", "joint")
PRECISIONS = ("fp32", "bf16", "fp16")
PARALLEL = ("ddp", "fsdp")
PRESETS = ("nano", "base")
RATES = {"muon": 2e-3, "adamw": 5e-4}
BACKBONES = ("pretrained", "random", "none")
LOGS = ("tensorboard", "wandb", "mlflow", "none")
PLACES = (  # what a run may change when it goes on
    *("data", "out", "index", "cache", "manifest", "pairs", "annotations", "skip_bad", "start_from", "resume"),
    *("workers", "threads", "device", "devices", "parallel", "micro", "recompute", "logs", "patience"),
    "backbone_file",  # whose fingerprint the recipe holds
)


@dataclass(frozen=True)
class MaskRecipe:
    """Which samplings training draws from: a kind, an acceleration, and calibration lines to go with it.

    The centre fraction is ``calibration / acceleration`` (0.32 gives fastMRI's 0.08 at 4x and 0.04 at 8x), varied by
    ±25 %.
    """

    kinds: tuple[str, ...] = ("equispaced_fraction", "random", "poisson", "equispaced", "magic")
    kind_weights: tuple[float, ...] = (0.45, 0.2, 0.15, 0.1, 0.1)
    accelerations: tuple[int, ...] = (3, 4, 4, 4, 5, 6, 8)
    calibration: float = 0.32

    def __post_init__(self) -> None:
        if len(self.kinds) != len(self.kind_weights) or not self.kinds:
            raise UsageError(
                f"{len(self.kinds)} mask kinds with {len(self.kind_weights)} weights; expected as many, at least one"
            )
        if not math.isclose(sum(self.kind_weights), 1.0):
            raise UsageError(f"mask weights {self.kind_weights} sum to {sum(self.kind_weights)}; expected 1")


@dataclass(frozen=True)
class TrainConfig:
    """One run: what it reads, what it trains, for how many steps in all, and where it leaves its checkpoints.

    ``data`` is a folder (or one file) of fully sampled fastMRI-style scans (.h5) and of pictures (.nii, .nii.gz, .npy),
    whose k-space is then simulated on the fly and so stamped; ``index`` (without it, one in ``out``) remembers what it
    holds, and ``skip_bad`` leaves out what cannot be used. ``cache`` is a folder that keeps scans in hybrid space, so
    that a strip is read without the rest; examples are the same. ``rows`` is the height in pixels of the strip of each
    slice that an example shows (hybrid space lets the readout be cut without loss). A step sees ``batch`` examples, of
    which ``micro`` go through a model at once (0: all that have one size); ``devices`` processes share them (several
    need the extra ``train``), with equal weights (``parallel`` ddp) or with the frozen backbone cut up among them
    (fsdp). ``precision`` bf16 and fp16 lower the products of real matrices; Fourier transforms, losses and the
    weights that learn stay in float32, and with bf16 a frozen backbone that loses nothing by it is stored so.
    ``recompute`` runs each layer of the backbone once more in the backward pass instead of keeping its activations
    (None: where it is large); ``backbone_file`` holds another backbone than the shipped one, as ``backbone import`` and
    ``backbone pretrain`` leave it.

    ``passes``, ``trigger``, ``consistency`` and ``encoder_depth`` (0: the preset's) change the model, as ablations do;
    of one that ``start_from`` names they stay as they are. So does its language model, unless ``backbone`` or
    ``backbone_file`` asks for another: then the codecs alone begin where they were. A new model's is the pretrained one
    (None).

    Stage encoder learns words: from ``pairs``, a .jsonl of questions and answers, from ``annotations``, a .csv as
    fastMRI+ has it, and for slices that neither knows from measured facts.

    ``optimizer`` muon moves matrices and kernels of convolutions by Muon, all else by AdamW; adamw moves all alike.

    ``manifest`` is a file that says who is on which side. Without it ``held_out`` names subjects (places in the folder,
    without suffix) kept for validation, and where none are named ``validation_fraction`` of the patients are drawn by
    seed. After ``patience`` validations without a better SSIM the run ends (0: never). ``logs`` names where numbers and
    pictures go besides the files (none named: TensorBoard, where it is installed). ``emphasis`` names subjects drawn
    twice as often. ``anatomy`` says what the data show, for warnings when the model meets another.
    """

    data: Path
    out: Path
    preset: str = "nano"
    stage: str = "joint"
    backbone: str | None = None
    backbone_file: Path | None = None
    passes: int = 1
    trigger: bool = True
    consistency: bool = True
    encoder_depth: int = 0
    max_steps: int = 8000
    optimizer: str = "muon"
    learning_rate: float | None = None
    warm_up: int = 200
    average: float = 0.998
    clip: float = 1.0
    l1_weight: float = 1.0
    batch: int = 1
    micro: int = 0
    rows: int = 128
    largest: int = 256
    seed: int = 0
    workers: int = 1
    threads: int = 0
    device: str = "cpu"
    devices: int = 1
    parallel: str = "ddp"
    precision: str = "fp32"
    recompute: bool | None = None
    resume: bool = False
    index: Path | None = None
    cache: Path | None = None
    manifest: Path | None = None
    skip_bad: bool = False
    start_from: str | None = None
    pairs: Path | None = None
    annotations: Path | None = None
    held_out: tuple[str, ...] = ()
    emphasis: tuple[str, ...] = ()
    anatomy: tuple[str, ...] = ()
    validation_fraction: float = 0.1
    validate_every: int = 500
    checkpoint_every: int = 250
    patience: int = 0
    logs: tuple[str, ...] = ()
    masks: MaskRecipe = field(default_factory=MaskRecipe)

    def __post_init__(self) -> None:
        for name in ("max_steps", "batch", "devices", "rows", "largest", "validate_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; expected at least 1")
        choices = (
            ("stage", STAGES),
            ("preset", PRESETS),
            ("precision", PRECISIONS),
            ("parallel", PARALLEL),
            ("optimizer", (*RATES,)),
        )
        for name, known in choices:
            if getattr(self, name) not in known:
                raise UsageError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(known)}")
        if self.backbone not in (None, *BACKBONES):
            raise UsageError(f"backbone is {self.backbone!r}; expected one of {', '.join(BACKBONES)}")
        for name in ("micro", "patience"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} is {getattr(self, name)}; expected 0 or more")
        unknown = [name for name in self.logs if name not in LOGS]
        if unknown:
            raise UsageError(f"log is {unknown[0]!r}; expected one of {', '.join(LOGS)}")
        if not 0 < self.rate < 1:
            raise UsageError(f"learning rate is {self.learning_rate}; expected between 0 and 1")
        if not 0 <= self.validation_fraction < 1:
            raise UsageError(f"validation fraction is {self.validation_fraction}; expected 0 to below 1")
        if not 0 <= self.average < 1:
            raise UsageError(f"average is {self.average}; expected 0 (no averaging) to below 1")

    @property
    def rate(self) -> float:
        """The highest learning rate: as given, or what suits the optimiser."""
        return RATES[self.optimizer] if self.learning_rate is None else self.learning_rate

    @property
    def leads(self) -> bool:
        """Whether this process is the first of those that a launcher has started, which writes and speaks."""
        named = ("RANK", "SLURM_PROCID", "LOCAL_RANK")
        return next((os.environ[name] for name in named if name in os.environ), "0") == "0"

    def recipe(self) -> dict[str, Any]:
        """What decides the weights that come out, JSON-ready; no path of this machine."""
        values = asdict(self) | {"learning_rate": self.rate}
        for name in PLACES:
            del values[name]
        return values
