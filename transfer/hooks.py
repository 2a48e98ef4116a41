"""Hooks of the transfer: frozen means frozen, pictures of detections, the run record."""

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from pretrain.backbone_file import read_provenance, weights_sha256
from pretrain.engine.launch import Unrecordable
from pretrain.engine.recording import RecordHook, backbone_fields
from pretrain.engine.run_folder import DETECTOR
from pretrain.engine.same_config import config_text
from pretrain.engine.train_loop import model_of
from pretrain.methods import setting_of
from results.record.files import write_atomically
from results.record.plain_json import MAX_ENTRIES
from results.record.protocol import deviations, incomplete
from transfer.backbones import TransferBackbone
from transfer.data.splits import ids_file
from transfer.metrics import CocoAP
from transfer.stored_detector import write_detector
from transfer.train import stated_values, training_images
from transfer.visualize import draw_detections

PER_CATEGORY = "per_category.json"  # beside the record: AP of every category, by kind
SPLIT_IDS = "split.ids.json"  # beside the record: the images that the run was trained on


@HOOKS.register_module()
class FrozenCheck(Hook):
    """Stops a run in which a frozen parameter or norm statistic has moved by a single bit.

    It looks before every checkpoint and at the end. The digests of the start travel in the
    checkpoints, so a resumed run is held to them too.
    """

    def before_run(self, runner: Runner) -> None:
        self._digests: dict[str, str] = {}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        self._digests = checkpoint["meta"]["frozen_sha256"]

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        self._compare(runner)
        checkpoint["meta"]["frozen_sha256"] = self._digests

    def before_train(self, runner: Runner) -> None:
        if self._digests:
            self._compare(runner)
        self._digests = frozen_digests(_backbone(runner))

    def after_train(self, runner: Runner) -> None:
        self._compare(runner)
        runner.logger.info(
            f"frozen stages: {len(self._digests)} tensors bit-identical before and after training"
        )

    def _compare(self, runner: Runner) -> None:
        now = frozen_digests(_backbone(runner))
        if moved := sorted({name for name, _ in self._digests.items() ^ now.items()}):
            raise RuntimeError(
                f"{len(moved)} frozen tensors changed during training, so the result would not be "
                f"that of a frozen backbone: {', '.join(moved[:10])}"
            )


def frozen_digests(backbone: TransferBackbone) -> dict[str, str]:
    """sha256 of each frozen tensor, by name."""
    return {name: weights_sha256({name: tensor}) for name, tensor in backbone.frozen_tensors()}


@HOOKS.register_module()
class DetectionPictures(Hook):
    """Draws the detections on the first validation images into ``pictures/``.

    A picture that cannot be drawn or written is told, and the run goes on.

    Args:
        count: how many images.
        score_threshold: less certain detections are left out.
    """

    def __init__(self, count: int = 6, score_threshold: float = 0.3) -> None:
        if count > MAX_ENTRIES:
            raise ValueError(f"pictures of {count} images, expected {MAX_ENTRIES} at most")
        self.count, self.score_threshold = count, score_threshold

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[DetDataSample] | None = None,
    ) -> None:
        if batch_idx >= self.count or not is_main_process() or not outputs:
            return
        path = Path(runner.work_dir) / "pictures" / f"{batch_idx:03d}.png"
        image, objects = outputs[0].img_path, outputs[0].pred_instances.cpu()
        categories = runner.val_dataloader.dataset.metainfo["classes"]
        try:
            path.unlink(missing_ok=True)  # an earlier validation's
            picture = draw_detections(image, objects, categories, self.score_threshold)
            png = io.BytesIO()
            picture.save(png, format="PNG")
            write_atomically(path, png.getvalue())
        except Exception as error:  # whatever it is, the figures are worth more
            runner.logger.warning(f"no picture of {image}: {' '.join(str(error).split())}")


@HOOKS.register_module()
class TransferRecord(RecordHook):
    """Writes the run record of a detector, with the last validation's metrics in percent.

    Beside it the figures of every category, see :class:`transfer.metrics.CocoAP`.
    """

    def before_run(self, runner: Runner) -> None:
        super().before_run(runner)
        self._metrics: dict[str, float] = {}

    def before_train(self, runner: Runner) -> None:
        metric = runner.val_loop.evaluator.metrics[0]
        if not isinstance(metric, CocoAP):
            raise Unrecordable(
                f"val_evaluator is {type(metric).__name__}, which does not give the record's "
                "figures; set its type to CocoAP, or on Cityscapes to CityscapesAP"
            )

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self._metrics = short_names(metrics or {})
        metric = runner.val_loop.evaluator.metrics[0]
        self._per_category = metric.per_category
        self._evaluated = evaluated_images(runner.cfg, metric)

    def after_train(self, runner: Runner) -> None:
        """Validate, where a resumed run had only that left to do; leave the detector, whole."""
        if not self._metrics:
            runner.val_loop.run()
        if is_main_process():
            meta = {
                "iter": runner.iter,
                "world_size": get_world_size(),
                "config_text": config_text(runner.cfg),
                "dataset_meta": runner.val_dataloader.dataset.metainfo,
            }
            write_detector(model_of(runner), Path(runner.work_dir) / DETECTOR, meta)

    def fields(self, runner: Runner) -> dict[str, Any]:
        cfg = runner.cfg
        provenance = read_provenance(cfg.backbone_file) if cfg.backbone_file else None
        settings = provenance.settings if provenance else {}
        fingerprints = "".join(cfg.dataset.fingerprints)
        return {
            "kind": "transfer",
            "method": cfg.method,
            "encoder": cfg.model.backbone.encoder,
            "pretrain_epochs": provenance.epochs if provenance else None,
            "dataset": cfg.dataset.name,
            "dataset_fingerprint": hashlib.sha256(fingerprints.encode()).hexdigest(),
            "protocol": cfg.protocol.name,
            "deviations": deviations(cfg.protocol.states, what_ran(runner)),
            "split": cfg.dataset.get("split"),
            "backbone": backbone_fields(cfg.backbone_file, provenance) if provenance else None,
            "settings": settings,
            "setting": setting_of(cfg.method, settings),
        }

    def outcome(self, runner: Runner) -> dict[str, Any]:
        cfg = runner.cfg
        folder = Path(runner.work_dir)
        pictures = sorted((folder / "pictures").glob("*.png"))
        artifacts: dict[str, Any] = {
            "pictures": [f"pictures/{p.name}" for p in pictures],
            "per_category": PER_CATEGORY,
            "detector": DETECTOR,
        }
        write_atomically(folder / PER_CATEGORY, json.dumps(self._per_category, indent=2).encode())
        if "split" in cfg.dataset:
            artifacts["split_ids_sha256"] = cfg.dataset.split_ids_sha256
            artifacts["split_ids"] = SPLIT_IDS
            drawn = ids_file(Path(cfg.data_root) / training_images(cfg).ann_file)
            write_atomically(folder / SPLIT_IDS, drawn.read_bytes())
        return {
            "deviations": (
                *deviations(cfg.protocol.states, what_ran(runner)),
                *incomplete(**self._evaluated),
            ),
            "metrics": self._metrics,
            "artifacts": artifacts,
            "evaluated_images": self._evaluated["evaluated"],
            "expected_images": self._evaluated["expected"],
        }


def what_ran(runner: Runner) -> dict[str, Any]:
    """What a run did, under the names that protocols use."""
    cfg = runner.cfg
    return {
        **stated_values(cfg),
        "dataset": cfg.dataset.name,
        "train_images": cfg.dataset.train_images,
        "val_images": cfg.dataset.val_images,
        "split": cfg.dataset.get("split"),
        "drawn_from_images": cfg.dataset.get("drawn_from_images"),
        "iterations": runner.max_iters,
        "epochs": runner.max_epochs * cfg.train_dataloader.dataset.get("times", 1),
        "lr": float(cfg.optim_wrapper.optimizer.lr),
    }


def evaluated_images(cfg: Config, metric: CocoAP) -> dict[str, int]:
    """How many images a validation has ``evaluated``, and how many were ``expected`` of it.

    Expected are all of the annotation file, and no fewer than the protocol states.
    """
    stated = cfg.protocol.states.get("val_images", 0)
    return {
        "evaluated": metric.evaluated_images,
        "expected": max(metric.annotated_images, stated),
    }


def short_names(metrics: dict[str, float]) -> dict[str, float]:
    """mmengine's names -> the record's: ``coco/box_ap`` -> ``box_ap``."""
    return {name.rpartition("/")[2]: float(value) for name, value in metrics.items()}


def _backbone(runner: Runner) -> TransferBackbone:
    backbone: TransferBackbone = model_of(runner).backbone
    return backbone
