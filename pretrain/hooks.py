"""Hooks of pretraining: the loss curve of every unit, the backbone file, the run record."""

import csv
import re
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

from pretrain.backbone_file import Provenance, write_backbone
from pretrain.engine.recording import RecordHook, backbone_fields
from pretrain.engine.run_folder import BACKBONE, LOSSES
from pretrain.engine.same_config import config_hash
from pretrain.engine.train_loop import model_of
from pretrain.methods import setting_of, settings_of
from pretrain.step.schedule import learning_rate
from results.record.environment import git_commit
from results.record.files import write_atomically
from results.record.protocol import deviations

ROW = re.compile(r"[0-9]{1,18}(,-?[0-9]+(\.[0-9]+)?)+")  # of LOSSES


@HOOKS.register_module()
class LossCurves(Hook):
    """Writes ``losses.csv``: iteration, epoch and the loss of every unit (Fig. 2).

    Args:
        interval: iterations between two rows.
    """

    def __init__(self, interval: int = 10) -> None:
        self.interval = interval

    def before_train(self, runner: Runner) -> None:
        """Keep a resumed run's rows up to where it goes on; drop what was written beyond."""
        self._file = None
        if not is_main_process():
            return
        path = Path(runner.work_dir) / LOSSES
        header = ["iteration", "epoch", *(unit.name for unit in model_of(runner).units)]
        lines = []
        if path.is_file():
            lines = path.read_text(errors="replace").splitlines()[1:]
        whole = [
            line for line in lines if ROW.fullmatch(line) and line.count(",") == len(header) - 1
        ]
        if len(whole) < len(lines):
            runner.logger.warning(f"{path}: left out {len(lines) - len(whole)} damaged lines")
        kept = [line for line in whole if int(line.split(",")[0]) <= runner.iter]
        write_atomically(path, "".join(f"{line}\n" for line in [",".join(header), *kept]).encode())
        self._file = path.open("a", newline="", buffering=1)
        self._writer = csv.writer(self._file, lineterminator="\n")

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Tensor] | None = None,
    ) -> None:
        due = self.every_n_train_iters(runner, self.interval) or self.is_last_train_iter(runner)
        if self._file is None or outputs is None or not due:
            return
        losses = [f"{float(loss):.6f}" for loss in outputs.values()]
        self._writer.writerow([runner.iter + 1, runner.epoch + 1, *losses])

    def after_train(self, runner: Runner) -> None:
        if self._file is not None:
            self._file.close()


@HOOKS.register_module()
class PretrainRecord(RecordHook):
    """Writes the backbone file and the run record at the end; provenance into every checkpoint."""

    def before_run(self, runner: Runner) -> None:
        super().before_run(runner)
        self._last_losses: dict[str, float] = {}

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Tensor] | None = None,
    ) -> None:
        if outputs is not None and self.end_of_epoch(runner.train_dataloader, batch_idx):
            self._last_losses = {name: float(loss) for name, loss in outputs.items()}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        super().after_load_checkpoint(runner, checkpoint)
        self._last_losses = checkpoint["meta"]["last_losses"]

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        super().before_save_checkpoint(runner, checkpoint)
        checkpoint["meta"]["last_losses"] = self._last_losses
        provenance = self._provenance(runner, epochs=checkpoint["meta"]["epoch"])
        checkpoint["meta"]["provenance"] = {
            k: v for k, v in vars(provenance).items() if k != "weights_sha256"
        }

    def fields(self, runner: Runner) -> dict[str, Any]:
        cfg = runner.cfg
        dataset = runner.train_dataloader.dataset
        provenance = self._provenance(runner, epochs=runner.max_epochs)
        return {
            "kind": "pretrain",
            "method": cfg.method,
            "encoder": cfg.model.encoder,
            "pretrain_epochs": runner.max_epochs,
            "dataset": dataset.name,
            "dataset_fingerprint": dataset.metainfo["fingerprint"],
            "protocol": cfg.protocol.name,
            "deviations": provenance.deviations,
            "split": None,
            "backbone": None,
            "settings": provenance.settings,
            "setting": setting_of(cfg.method, provenance.settings),
        }

    def outcome(self, runner: Runner) -> dict[str, Any]:
        provenance = write_backbone(
            model_of(runner).encoder,
            Path(runner.work_dir) / BACKBONE,
            self._provenance(runner, epochs=runner.max_epochs),
        )
        return {
            "backbone": backbone_fields(BACKBONE, provenance),
            "metrics": self._last_losses,
            "artifacts": {"losses": LOSSES, "backbone": BACKBONE},
        }

    def _provenance(self, runner: Runner, epochs: int) -> Provenance:
        cfg = runner.cfg
        dataset = runner.train_dataloader.dataset
        did = stated_values(cfg) | {
            "dataset": dataset.name,
            "images": len(dataset),
            "epochs": epochs,
        }
        return Provenance(
            method=cfg.method,
            encoder=cfg.model.encoder,
            epochs=epochs,
            dataset=dataset.name,
            dataset_fingerprint=dataset.metainfo["fingerprint"],
            deviations=deviations(cfg.protocol.states, did),
            config_hash=config_hash(cfg),
            git_commit=git_commit(),
            seed=runner.seed,
            mean=tuple(cfg.model.data_preprocessor.mean),
            std=tuple(cfg.model.data_preprocessor.std),
            settings=settings_of(cfg.model),
        )


def stated_values(cfg: Config) -> dict[str, Any]:
    """What the config of a pretraining says, under the names that protocols use."""
    return {
        "epochs": cfg.epochs,
        "global_batch_size": cfg.global_batch_size,
        "lr": round(learning_rate(cfg.base_lr, cfg.global_batch_size), 9),
        **settings_of(cfg.model),
        "loss": cfg.model.loss["type"],
    }
