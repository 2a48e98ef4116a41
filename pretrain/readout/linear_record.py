"""The end of a readout: frozen means frozen, k-NN beside the linear classifiers, the run record."""

import hashlib
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.registry import DATASETS, HOOKS
from mmengine.runner import Runner

from pretrain.backbone_file import weights_sha256
from pretrain.engine.recording import RecordHook, backbone_fields
from pretrain.engine.train_loop import model_of
from pretrain.images.labelled_images import SPLITS, transform_name
from pretrain.methods import setting_of
from pretrain.readout.features import CLASSES, first_classes, write_features
from pretrain.readout.frozen_encoder import FrozenEncoder
from pretrain.readout.knn import knn_ranks
from pretrain.readout.linear_model import stage_metrics
from pretrain.readout.stage_features import StageFeatures, stage_tensor
from pretrain.step.schedule import learning_rate
from results.record.protocol import deviations, incomplete

FEATURES = "features.npz"
FEATURES_FOLDER = "features"


@HOOKS.register_module()
class LinearRecord(RecordHook):
    """Checks that the encoder did not move, adds k-NN, writes ``record.json``.

    ``features.npz`` beside it holds what Fig. 3 is drawn from: the last stage's features of the
    validation images of the first ten classes.
    """

    def before_run(self, runner: Runner) -> None:
        super().before_run(runner)
        self._metrics: dict[str, float] = {}
        self._evaluated = 0

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self._metrics = dict(metrics or {})
        self._evaluated = len(runner.val_dataloader.dataset)  # the metric drops what fills up

    def after_train(self, runner: Runner) -> None:
        encoder = _encoder(runner)
        if weights_sha256(encoder.encoder.state_dict()) != encoder.provenance.weights_sha256:
            raise RuntimeError(
                "the encoder's weights changed while its readout was trained, so the result would "
                "not be that of a frozen encoder"
            )
        train, val = (DATASETS.build(features_of(runner.cfg, split)) for split in SPLITS)
        if is_main_process():
            self._metrics |= knn_metrics(train, val, runner.cfg.k, runner.cfg.temperature)
            places = first_classes(val.labels, CLASSES)
            stage = val.stages[-1]
            write_features(
                Path(runner.work_dir) / FEATURES,
                stage_tensor(val, stage)[places],
                val.labels[places],
                val.classes,
                stage,
                encoder.provenance,
            )

    def fields(self, runner: Runner) -> dict[str, Any]:
        cfg = runner.cfg
        provenance = _encoder(runner).provenance
        backbone = backbone_fields(cfg.backbone_file, provenance)
        return {
            "kind": "linear",
            "method": cfg.method,
            "encoder": cfg.encoder,
            "pretrain_epochs": provenance.epochs,
            "dataset": cfg.dataset.name,
            "dataset_fingerprint": hashlib.sha256(
                "".join(cfg.dataset.fingerprints).encode()
            ).hexdigest(),
            "protocol": cfg.protocol.name,
            "deviations": deviations(cfg.protocol.states, found(runner)),
            "split": None,
            "backbone": None if cfg.method == "random" else backbone,
            "settings": provenance.settings,
            "setting": setting_of(cfg.method, provenance.settings),
        }

    def outcome(self, runner: Runner) -> dict[str, Any]:
        cfg = runner.cfg
        expected = max(cfg.dataset.val_images, cfg.protocol.states.get("val_images", 0))
        return {
            "deviations": (
                *deviations(cfg.protocol.states, found(runner)),
                *incomplete(self._evaluated, expected),
            ),
            "metrics": self._metrics,
            "artifacts": {"features": FEATURES},
            "evaluated_images": self._evaluated,
            "expected_images": expected,
        }


def images_of(cfg: Config, split: str) -> dict[str, Any]:
    """What :class:`pretrain.images.labelled_images.LabelledImages` takes of a config."""
    sizes = {"image_size": cfg.image_size, "resize": cfg.resize}
    return {"data_root": cfg.data_root, "split": split, **sizes}


def features_of(cfg: Config, split: str) -> dict[str, Any]:
    """Config of :class:`pretrain.readout.stage_features.StageFeatures`, kept in the work folder."""
    return {
        "type": "StageFeatures",
        **images_of(cfg, split),
        "backbone_file": cfg.backbone_file,
        "folder": str(Path(cfg.work_dir) / FEATURES_FOLDER / split),
        "stages": cfg.stages,
    }


def knn_metrics(
    train: StageFeatures, val: StageFeatures, k: int, temperature: float
) -> dict[str, float]:
    """``knn_top1_<stage>``, ``knn_top5_<stage>``; ``knn_top1``, ``knn_top5``: percent."""
    classes = len(val.classes)
    ranks = {
        stage: knn_ranks(
            train.arrays[stage],
            train.labels,
            stage_tensor(val, stage).to(get_device()),
            val.labels,
            classes,
            k,
            temperature,
        )
        for stage in val.stages
    }
    return stage_metrics(ranks, classes, prefix="knn_")


def found(runner: Runner) -> dict[str, Any]:
    """What a run did, under the names that protocols use."""
    data = runner.cfg.dataset
    counts = {name: data[name] for name in ("train_images", "val_images", "classes")}
    return {"dataset": data.name, **counts, **stated_values(runner.cfg)}


def stated_values(cfg: Config) -> dict[str, Any]:
    """What the config of a readout says, under the names that protocols use."""
    crop = transform_name(cfg.image_size, cfg.resize, augment=False)
    augmented = transform_name(cfg.image_size, cfg.resize, augment=True)
    return {
        "epochs": cfg.epochs,
        "milestones": ", ".join(str(epoch) for epoch in cfg.milestones),
        "global_batch_size": cfg.global_batch_size,
        "lr": learning_rate(cfg.base_lr, cfg.global_batch_size),
        "momentum": float(cfg.optim_wrapper.optimizer.momentum),
        "weight_decay": float(cfg.optim_wrapper.optimizer.weight_decay),
        "train_transform": f"{crop}, cached" if cfg.cache_features else augmented,
        "test_transform": crop,
    }


def _encoder(runner: Runner) -> FrozenEncoder:
    return model_of(runner).data_preprocessor
