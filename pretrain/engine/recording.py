"""The run record of a training on mmengine's Runner, pretraining or transfer."""

import resource
import time
from abc import abstractmethod
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from pretrain.backbone_file import Provenance
from pretrain.engine.launch import Unrecordable
from pretrain.engine.same_config import config_hash
from pretrain.step.norm import describe_norm
from results.record.environment import git_commit, package_versions, processor
from results.record.run_record import FILE_NAME, RunRecord


class RecordHook(Hook):
    """Writes ``record.json`` when a run has ended well; its time adds up over resumed parts."""

    priority = "VERY_LOW"

    def before_run(self, runner: Runner) -> None:
        """Start the clock, and build the record of a run that had no result yet.

        Raises:
            Unrecordable: the run could not be recorded at its end; says why.
        """
        self._begun = time.monotonic()
        self._elapsed_before_s = 0.0
        self._started_at = _now()
        self._norm = "not known before the first iteration"
        try:
            RunRecord(metrics={}, artifacts={}, **self._common(runner), **self.fields(runner))
        except (ValueError, KeyError, AttributeError) as error:
            raise Unrecordable(
                f"{runner.cfg.config_file}: this run could not be recorded at its end ({error})"
            ) from error

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        checkpoint["meta"].update(
            elapsed_s=self._elapsed_s(), started_at=self._started_at, norm=self._norm
        )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        meta = checkpoint["meta"]
        self._elapsed_before_s = meta["elapsed_s"]
        self._started_at = meta["started_at"]
        self._norm = meta["norm"]

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        if batch_idx == 0:  # the model is in training mode by now
            self._norm = describe_norm(runner.model)

    def after_run(self, runner: Runner) -> None:
        if is_main_process():
            said = self._common(runner) | self.fields(runner) | self.outcome(runner)
            RunRecord(**said).write(Path(runner.work_dir) / FILE_NAME)

    @abstractmethod
    def fields(self, runner: Runner) -> dict[str, Any]:
        """What only this kind of run can say, of what is known before it begins."""

    @abstractmethod
    def outcome(self, runner: Runner) -> dict[str, Any]:
        """What came out: ``metrics``, ``artifacts`` and what else stands in for ``fields``.

        Writes the files that the record names.
        """

    def _elapsed_s(self) -> float:
        return self._elapsed_before_s + time.monotonic() - self._begun

    def _common(self, runner: Runner) -> dict[str, Any]:
        cfg = runner.cfg
        return {
            "config": cfg.config_file,
            "config_hash": config_hash(cfg),
            "seed": runner.seed,
            "git_commit": git_commit(),
            "world_size": get_world_size(),
            "global_batch_size": cfg.global_batch_size,
            "precision": str(cfg.optim_wrapper.get("dtype", "float32")),
            "norm": self._norm,
            "learning_rate": float(cfg.optim_wrapper.optimizer.lr),
            "versions": package_versions(),
            "hardware": {**processor(), "gpus": _gpus()},
            "wall_time_s": round(self._elapsed_s(), 1),
            "peak_memory_mib": _peak_memory_mib(),
            "started_at": self._started_at,
            "finished_at": _now(),
        }


def backbone_fields(path: str, provenance: Provenance) -> dict[str, Any]:
    """What a record says of its backbone: file, sha256 of its weights, and where they are from."""
    return {
        "path": path,
        "sha256": provenance.weights_sha256,
        "provenance": vars(provenance),
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _gpus() -> list[str]:
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def _peak_memory_mib() -> float:
    """Of this process: the allocator's peak on a GPU, else the resident set's."""
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 2**20, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10, 1)
