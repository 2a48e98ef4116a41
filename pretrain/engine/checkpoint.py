"""Checkpoints: whole or not there at all, and of plain data.

mmengine's own hook writes into the file under its final name, and removes the older ones first; a
run that is killed meanwhile, or that finds the disk full, has lost them.

mmengine also puts its log buffers into a checkpoint, and torch refuses to load those objects,
rightly, since 2.6. They only smooth the printed log, so they are left out; everything else is
tensors and plain Python, so that resuming unpickles nothing that could run code.
"""

import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from pretrain.engine.atomic_files import AtomicFiles
from pretrain.engine.run_folder import LAST, saved
from pretrain.engine.same_config import config_text
from pretrain.engine.stopping import STOP, TRY_AGAIN
from pretrain.engine.train_loop import ResumableLoop, model_of


@HOOKS.register_module()
class AtomicCheckpoint(Hook):
    """Writes ``epoch_N.pth`` or ``iter_N.pth`` and names it in ``last_checkpoint``.

    The last one stays whole until the next is on the disk. Told to stop, it writes one after the
    iteration at hand and ends the run with exit status 75. For :class:`ResumableLoop`.

    Args:
        interval: epochs or iterations from one to the next; the end of the run gets one anyhow.
        by_epoch: whether ``interval`` counts epochs; a large data set has long ones.
        max_keep_ckpts: how many to keep of them.
        save_best: a metric of the validation, of which more is better; the weights with the most
            of it so far are kept as ``best_METRIC.pth``. Pretraining has none.
    """

    priority = "LOWEST"  # after the hooks whose state it saves

    def __init__(
        self,
        interval: int = 1,
        by_epoch: bool = True,
        max_keep_ckpts: int = 2,
        save_best: str | None = None,
    ) -> None:
        if interval < 1 or max_keep_ckpts < 1:
            raise ValueError(
                f"default_hooks.checkpoint: interval is {interval} and max_keep_ckpts "
                f"{max_keep_ckpts}; both must be at least 1"
            )
        self.interval, self.by_epoch = interval, by_epoch
        self.max_keep_ckpts = max_keep_ckpts
        self.save_best = save_best
        self._best: float | None = None
        self._saved = -1  # iterations, of the last one

    def before_train(self, runner: Runner) -> None:
        if not isinstance(runner.train_loop, ResumableLoop):
            raise ValueError(
                f"train_cfg is {type(runner.train_loop).__name__}, which does not continue where "
                "an AtomicCheckpoint was written; set train_cfg.type to ResumableLoop"
            )
        STOP.saves = True

    def after_train(self, runner: Runner) -> None:
        STOP.saves = False
        self._stop(runner, runner.iter)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, torch.Tensor] | None = None,
    ) -> None:
        iterations = runner.iter + 1
        every = self.interval * (len(runner.train_dataloader) if self.by_epoch else 1)
        told = STOP.told and is_main_process()
        if iterations % every == 0 or self.is_last_train_iter(runner) or told:
            self._save(runner, iterations)
        self._stop(runner, iterations)

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """A validation is done again, where nothing was trained since the last checkpoint."""
        self._stop(runner, runner.iter)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        if self.save_best is None or not metrics:  # mmdet reports none for an empty list
            return
        if self.save_best not in metrics:
            raise ValueError(
                f"default_hooks.checkpoint.save_best is {self.save_best!r}, but the validation "
                f"gives {', '.join(metrics)}"
            )
        score = float(metrics[self.save_best])
        if self._best is None or score > self._best:
            self._best = score
            name = f"best_{self.save_best.replace('/', '_')}.pth"
            self._write(runner, name, runner.iter, with_state=False)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Refuse what mmengine would load in part, and what it would run.

        Raises:
            ValueError: tensors are missing or too many.
        """
        checkpoint["meta"].pop("config", None)  # mmengine executes it as Python
        self._best = checkpoint["meta"].get("best")
        self._saved = checkpoint["meta"]["iter"]
        if odd := model_of(runner).state_dict().keys() ^ checkpoint["state_dict"].keys():
            raise ValueError(
                f"the checkpoint and the model do not hold the same tensors: {len(odd)} are in "
                f"only one of them ({', '.join(sorted(odd)[:5])}); continue with the version of "
                "the code that wrote it, or start anew in another --work-dir"
            )

    def _save(self, runner: Runner, iterations: int) -> None:
        epochs, rest = divmod(iterations, len(runner.train_dataloader))
        name = f"epoch_{epochs}.pth" if self.by_epoch and not rest else f"iter_{iterations}.pth"
        runner.logger.info(f"Saving checkpoint {name}")
        self._write(runner, name, iterations, with_state=True)
        self._saved = iterations
        if is_main_process():
            folder = Path(runner.work_dir)
            AtomicFiles().put(str(folder / name).encode(), folder / LAST)
            self._remove_older(runner, iterations)

    def _write(self, runner: Runner, name: str, iterations: int, with_state: bool) -> None:
        runner.save_checkpoint(
            runner.work_dir,
            name,
            save_optimizer=with_state,
            save_param_scheduler=with_state,
            meta={
                "epoch": iterations // len(runner.train_dataloader),  # complete ones
                "iter": iterations,
                "best": self._best,
                "world_size": get_world_size(),
                "config_text": config_text(runner.cfg),
            },
            backend_args={"backend": "atomic"},
        )

    def _remove_older(self, runner: Runner, iterations: int) -> None:
        """Keep as many as wanted up to this one. Any later one is left from before a resume."""
        found = []
        for path in saved(Path(runner.work_dir)):
            unit, number = path.stem.split("_")
            found.append(
                (int(number) * (len(runner.train_dataloader) if unit == "epoch" else 1), path)
            )
        earlier = sorted(entry for entry in found if entry[0] <= iterations)
        for _, path in earlier[: -self.max_keep_ckpts]:
            path.unlink()

    def _stop(self, runner: Runner, iterations: int) -> None:
        """End the run, if it was told to and is saved; the other processes follow the first."""
        if STOP.told and is_main_process() and self._saved == iterations:
            runner.logger.info(
                f"stopped by {STOP.told.name} after iteration {iterations}, which is saved; to go "
                f"on: {STOP.command()}"
            )
            sys.exit(TRY_AGAIN)


@HOOKS.register_module()
class PlainCheckpoint(Hook):
    """Strips a checkpoint to tensors, numbers, strings, lists and dicts before it is written."""

    priority = "VERY_LOW"  # after the hooks that add something of their own

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        hub, information = checkpoint["message_hub"], {}
        for name, value in hub["runtime_info"].items():
            with suppress(TypeError):  # what cannot be put plainly is not needed to continue
                information[name] = plain(value)
        checkpoint["message_hub"] = {
            "log_scalars": {},
            "runtime_info": information,
            "resumed_keys": {k: v for k, v in hub["resumed_keys"].items() if k in information},
        }
        for part in checkpoint.keys() - {"state_dict"}:
            checkpoint[part] = plain(checkpoint[part])


def plain(value: Any) -> Any:
    """``value`` with NumPy's numbers and arrays as Python's, and any mapping as a dict.

    Raises:
        TypeError: it holds something else.
    """
    if isinstance(value, np.generic):  # first, since a NumPy float64 is a Python float too
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str, torch.Tensor)):
        return value
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(item) for item in value)
    raise TypeError(f"{type(value).__name__} is not plain data")
