"""A run as a job: handed to SLURM by submitit (extra `cluster`), and back in the queue where it is preempted."""

import logging
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nirvana_mri.errors import MissingExtraError, UsageError
from nirvana_mri.train.config import TrainConfig
from nirvana_mri.train.outputs import STATE

WHERE = ("slurm", "local")
JOBS = "jobs"  # in the run's folder: logs, and what submitit writes
RESTARTS = 100  # after a time limit; preemptions are not counted


@dataclass(frozen=True)
class ClusterConfig:
    """What a job asks for. Empty or 0: the cluster's own choice.

    Every node runs as many processes as the training's ``devices``, each with ``cpus`` and, on cuda, one GPU.
    """

    partition: str = ""
    account: str = ""
    nodes: int = 1
    cpus: int = 4
    memory_gb: int = 0
    hours: float = 24.0

    @classmethod
    def from_words(cls, words: Sequence[str]) -> "ClusterConfig":
        """From KEY=VALUE each. Raises: UsageError for an unknown key or a value that is none."""
        kinds = {name: type(value) for name, value in asdict(cls()).items()}
        found: dict[str, Any] = {}
        for word in words:
            key, _, value = word.partition("=")
            if key not in kinds or not value:
                raise UsageError(f"--cluster {word}; expected KEY=VALUE with one of {', '.join(kinds)}")
            try:
                found[key] = kinds[key](value)
            except ValueError:
                raise UsageError(f"--cluster {word}; expected a number") from None
        made = cls(**found)
        if made.nodes < 1 or made.cpus < 1 or made.memory_gb < 0 or not made.hours > 0:
            raise UsageError(f"--cluster {' '.join(words)}; expected nodes and cpus from 1, hours above 0")
        return made

    def parameters(self, config: TrainConfig) -> dict[str, Any]:
        """The same in submitit's words."""
        on_gpus = config.device.startswith("cuda")
        wanted = {
            "nodes": self.nodes,
            "tasks_per_node": config.devices,
            "cpus_per_task": self.cpus,
            "gpus_per_node": config.devices if on_gpus else 0,
            "timeout_min": max(1, round(60 * self.hours)),
            "mem_gb": self.memory_gb,
            "slurm_partition": self.partition,
            "slurm_account": self.account,
            "slurm_additional_parameters": {"requeue": True},
        }
        return {key: value for key, value in wanted.items() if value}


@dataclass(frozen=True)
class Job:
    """What runs there: the training, from its last checkpoint on where there is one."""

    config: TrainConfig

    def __call__(self) -> str:
        from nirvana_mri.train.loop import train

        logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
        resume = self.config.resume or (self.config.out / STATE).exists()
        return str(train(replace(self.config, resume=resume), _told))

    def checkpoint(self) -> Any:
        """What submitit asks for when the job is to stop: the same again, later."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def submit(config: TrainConfig, where: str, cluster: ClusterConfig) -> tuple[str, Path]:
    """Hand the run to SLURM, or to a process of its own here; the job's name and where its log goes.

    Raises: MissingExtraError without submitit; UsageError where there is no SLURM, for a folder that holds a run
    already, or for what cannot be shared equally.
    """
    try:
        import submitit
    except ImportError:
        raise MissingExtraError("submitting a run as a job", "cluster") from None
    if where not in WHERE:
        raise UsageError(f"submit is {where!r}; expected one of {', '.join(WHERE)}")
    if where == "local" and config.devices * cluster.nodes > 1:
        raise UsageError(f"--submit local runs one process, not {config.devices * cluster.nodes}; leave out --devices")
    if config.batch % (config.devices * cluster.nodes):
        raise UsageError(f"batch is {config.batch}, on {config.devices * cluster.nodes} processes; choose a multiple")
    if where == "slurm" and shutil.which("srun") is None:
        raise UsageError("there is no SLURM here (srun is missing); submit where jobs are submitted, or --submit local")
    if (config.out / STATE).exists() and not config.resume:
        raise UsageError(f"{config.out} holds a run already; continue it with --resume or choose another folder")
    executor = submitit.AutoExecutor(config.out / JOBS, cluster=where, slurm_max_num_timeout=RESTARTS)
    executor.update_parameters(name="nirvana-mri", **cluster.parameters(config))
    job = executor.submit(Job(config))
    return str(job.job_id), Path(job.paths.stdout)


def _told(step: int, total: int, row: dict[str, float]) -> None:
    """The log gets a line where something was judged."""
    judged = ", ".join(f"{name} {row[name]:.4f}" for name in ("ssim", "psnr", "answer_loss") if name in row)
    if judged:
        logging.getLogger(__name__).info("step %d of %d: loss %.4f, %s", step, total, row["loss"], judged)
