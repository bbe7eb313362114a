"""The folder of a run: models, state, table, pictures, logs. Only the first of several processes writes."""

import time
from pathlib import Path
from typing import Any

from nirvana_mri.metrics_file import MetricsFile
from nirvana_mri.train.config import TrainConfig
from nirvana_mri.train.facts import save_model
from nirvana_mri.train.logs import Log, open_logs
from nirvana_mri.train.manifest import Manifest
from nirvana_mri.train.state import Run, keep

STATE, LAST, BEST, METRICS = "state.safetensors", "last.safetensors", "best.safetensors", "metrics.csv"
INDEX, MANIFEST, PICTURES = "index.json", "manifest.json", "validation"
COLUMNS = ("step", "loss", "rate", "gradient_norm", "ssim", "psnr", "answer_loss", "waited", "seconds")


class Outputs:
    """What a run leaves, as it goes along."""

    def __init__(self, run: Run, config: TrainConfig, manifest: Manifest, facts: dict[str, Any], writes: bool) -> None:
        self.run, self.out, self.facts, self.writes = run, config.out, facts, writes
        self.metrics = MetricsFile(config.out / METRICS, COLUMNS, run.step, writes)
        self.logs: list[Log] = open_logs(config, run.step, run.recipe) if writes else []
        self.began = time.monotonic()
        if writes:
            manifest.write(config.out / MANIFEST)

    def row(self, row: dict[str, float]) -> None:
        """A step's numbers."""
        self.metrics.write(row | {"seconds": round(time.monotonic() - self.began, 2)})
        for log in self.logs:
            log.numbers(self.run.step, {name: value for name, value in row.items() if name != "step"})

    def picture(self) -> Path | None:
        """Where the picture of this step's validation goes."""
        return self.out / PICTURES / f"{self.run.step:07d}.png" if self.writes else None

    def judged(self, best: bool) -> None:
        """Take up the run's new scores: the best model so far, and the picture that was drawn with them."""
        if best:
            self._model(BEST)
        picture = self.picture()
        if picture is not None and picture.exists():
            for log in self.logs:
                log.picture(self.run.step, picture)

    def checkpoint(self) -> None:
        """The state first, then the model: whatever a kill leaves, the state is whole and the newer one."""
        if self.writes:
            keep(self.run, self.out / STATE)
        self._model(LAST)

    def close(self, validated: bool) -> None:
        """The models once more, as a kill may have come between the state and them; without validation best is last."""
        self._model(LAST)
        if not validated:
            self._model(BEST)
        for log in self.logs:
            log.close()

    def _model(self, name: str) -> None:
        if self.writes:
            save_model(self.run, self.out / name, self.facts)
