"""Where a run's numbers and pictures go besides metrics.csv: TensorBoard, Weights & Biases, MLflow, by name."""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from nirvana_mri.errors import MissingExtraError, UsageError
from nirvana_mri.train.config import TrainConfig

EXTRAS = {"tensorboard": "train", "wandb": "wandb", "mlflow": "mlflow"}


@runtime_checkable
class Log(Protocol):
    """One place that takes numbers by step, and pictures."""

    def numbers(self, step: int, values: dict[str, float]) -> None: ...

    def picture(self, step: int, path: Path) -> None: ...

    def close(self) -> None: ...


def open_logs(config: TrainConfig, first: int, recipe: dict[str, Any]) -> list[Log]:
    """The logs that were asked for by name; without names TensorBoard, where it is installed.

    ``first`` is the step that a resumed run goes on from: what TensorBoard holds beyond is dropped. Raises:
    MissingExtraError for one that is not installed.
    """
    names = config.logs
    if not names:
        names = tuple(name for name in ("tensorboard",) if importlib.util.find_spec(name) is not None)
    opened: list[Log] = []
    for name in names:
        if name == "none":
            continue
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError(f"--log {name}", EXTRAS[name])
        opened.append(MAKERS[name](config.out, first, recipe))
    return opened


class TensorBoard:
    """Event files in the run's folder: tensorboard --logdir OUT."""

    def __init__(self, out: Path, first: int, recipe: dict[str, Any]) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        self.writer = SummaryWriter(str(out / "tensorboard"), purge_step=first + 1 if first else None)

    def numbers(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def picture(self, step: int, path: Path) -> None:
        from matplotlib.image import imread

        self.writer.add_image("validation", imread(path)[..., :3], step, dataformats="HWC")

    def close(self) -> None:
        self.writer.close()


class WeightsAndBiases:
    """A run in the project that WANDB_PROJECT names (else nirvana-mri); WANDB_MODE=offline keeps it here."""

    def __init__(self, out: Path, first: int, recipe: dict[str, Any]) -> None:
        import wandb

        project = os.environ.get("WANDB_PROJECT", "nirvana-mri")
        self.module, self.run = wandb, wandb.init(project=project, dir=str(out), config=recipe, resume="allow")

    def numbers(self, step: int, values: dict[str, float]) -> None:
        self.run.log(values, step=step)

    def picture(self, step: int, path: Path) -> None:
        self.run.log({"validation": self.module.Image(str(path))}, step=step)

    def close(self) -> None:
        self.run.finish()


class MLflow:
    """A run at the address in MLFLOW_TRACKING_URI."""

    def __init__(self, out: Path, first: int, recipe: dict[str, Any]) -> None:
        if "MLFLOW_TRACKING_URI" not in os.environ:
            raise UsageError("--log mlflow needs an address; set MLFLOW_TRACKING_URI to that of your MLflow server")
        import mlflow

        self.module = mlflow
        mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", "nirvana-mri"))
        mlflow.start_run()
        mlflow.log_dict(recipe, "recipe.json")

    def numbers(self, step: int, values: dict[str, float]) -> None:
        self.module.log_metrics(values, step=step)

    def picture(self, step: int, path: Path) -> None:
        self.module.log_artifact(str(path), "validation")

    def close(self) -> None:
        self.module.end_run()


MAKERS: dict[str, Callable[[Path, int, dict[str, Any]], Log]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
}
