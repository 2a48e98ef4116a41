"""``tools/dist_train.sh CONFIG``: config -> mmengine Runner with mmdetection -> run record.

The names that ``--cfg-options`` may set, and that find their places here, are NAMES.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.registry import DATASETS
from mmengine.config import Config, ConfigDict
from mmengine.dist import get_rank, get_world_size

from pretrain.backbone_file import Provenance, load_backbone
from pretrain.encoders import build_encoder
from pretrain.engine.documented_names import COMMON, SEED, Name, check, together
from pretrain.engine.launch import main, per_process
from pretrain.engine.stated_protocol import state
from transfer.data.annotations import DOWNLOAD
from transfer.data.cityscapes import NOT_PREPARED, find_pairs
from transfer.data.dataset_check import OWN_DATASET, DatasetSummary, check_coco
from transfer.data.splits import check_split

WHOLE = Name("a whole number", least=1)
NAMES = {
    **COMMON,
    "method": Name("a text"),
    "backbone_file": Name(
        "a text", none=True, sets=("backbone_sha256", "model.backbone.backbone_file")
    ),
    "data_root": Name(
        "a text",
        sets=(
            "dataset",
            *(f"{part}_dataloader.dataset.data_root" for part in ("train", "val", "test")),
            "train_dataloader.dataset.dataset.data_root",
            "val_evaluator.ann_file",
            "test_evaluator.ann_file",
        ),
    ),
    "max_epochs": WHOLE._replace(optional=True, sets=("train_cfg.max_epochs",)),
    "max_iters": WHOLE._replace(optional=True, sets=("train_cfg.max_iters",)),
    "split": Name("a whole number", least=0, optional=True),
    "split_size": WHOLE._replace(optional=True),
    "global_batch_size": WHOLE._replace(sets=("train_dataloader.batch_size",)),
    "base_batch_size": WHOLE,
    "seed": SEED,
    "protocol.states.train_images": WHOLE,
    "protocol.states.val_images": WHOLE,
    "model.backbone.encoder": Name("a text"),
    "model.backbone.frozen_stages": Name("a whole number", least=0, optional=True),
    "model.roi_head.bbox_head.num_classes": WHOLE,
    "model.roi_head.mask_head.num_classes": WHOLE,
}

VAL2017 = ("instances_val2017.json", 5_000)  # images
VAL2017_ANNOTATIONS = 36_781  # as published; a file that has others is not COCO's own


def prepare(cfg: Config, world_size: int) -> None:
    """Put the documented names where they belong, and check the inputs.

    Raises:
        ValueError, FileNotFoundError: what was found, what was expected, what to do.
    """
    check(cfg, NAMES)
    state(cfg, stated_values)
    batch = cfg.global_batch_size
    together(
        lambda: prepare_length(cfg),
        lambda: check_warmup(cfg.param_scheduler),
        lambda: prepare_backbone(cfg),
        lambda: prepare_data(cfg),
        lambda: cfg.train_dataloader.update(batch_size=per_process(batch, world_size)),
    )
    if world_size == 1:
        print(
            f"one process: SyncBN has the statistics of its {batch} images, the whole global batch",
            flush=True,
        )
    lr = cfg.optim_wrapper.optimizer.lr = stated_values(cfg)["lr"]
    print(f"learning rate {cfg.base_lr} x {batch} / {cfg.base_batch_size} = {lr:g}", flush=True)
    cfg.randomness = {**(cfg.get("randomness") or {}), "seed": cfg.seed}


def stated_values(cfg: Config) -> dict[str, Any]:
    """What the config of a detector says, under the names that protocols use."""
    steps = training_images(cfg).pipeline
    resize = next(step for step in steps if step.type in ("Resize", "RandomResize"))
    times = cfg.train_dataloader.dataset.get("times", 1)  # the images are repeated
    return {
        **({"iterations": cfg.max_iters} if "max_iters" in cfg else {}),
        **({"epochs": cfg.max_epochs * times} if "max_epochs" in cfg else {}),
        "global_batch_size": cfg.global_batch_size,
        "train_scale": str(resize.scale),
        "frozen_stages": cfg.model.backbone.frozen_stages,
        "lr": cfg.base_lr * cfg.global_batch_size / cfg.base_batch_size,
    }


def prepare_length(cfg: Config) -> None:
    """Give the loop its length.

    Raises:
        ValueError: the config has none, or two.
    """
    lengths = [name for name in ("max_epochs", "max_iters") if name in cfg]
    if len(lengths) != 1 or ("split" in cfg) != ("split_size" in cfg):
        raise ValueError(
            "the config needs max_epochs or max_iters, not both, and split and split_size "
            f"together; it has {', '.join(n for n in NAMES if n in cfg)}"
        )
    cfg.train_cfg[lengths[0]] = cfg[lengths[0]]


def check_warmup(schedulers: Sequence[ConfigDict]) -> None:
    """Refuse a warm-up of one step: mmengine's LinearLR rises over one step less than it has.

    Raises:
        ValueError: names the warm-up.
    """
    for place, entry in enumerate(schedulers):
        if entry.type == "LinearLR" and entry.get("end", math.inf) - entry.get("begin", 0) < 2:
            raise ValueError(
                f"the warm-up in param_scheduler.{place} has one step, after which the learning "
                f"rate would stay at {entry.get('start_factor', 1 / 3):g} of its peak; set "
                f"--cfg-options param_scheduler.{place}.end=N, at least 2 above its begin"
            )


def prepare_backbone(cfg: Config) -> None:
    """Give the model its backbone file, after reading all of it.

    Raises:
        ValueError: file and config disagree about method, encoder, tensors or normalisation.
    """
    path = cfg.model.backbone.backbone_file = cfg.backbone_file
    encoder = build_encoder(cfg.model.backbone.encoder)
    option = "name its file with --cfg-options backbone_file=FILE"
    if path is None:
        if cfg.method != "random":
            raise ValueError(f"backbone_file is None, but the method is {cfg.method}; {option}")
        return
    try:
        provenance = load_backbone(encoder, path)
    except (ValueError, FileNotFoundError) as error:
        raise type(error)(f"{error}; {option}") from error
    if provenance.method != cfg.method:
        raise ValueError(
            f"{path} was pretrained with {provenance.method}, but the config reports its result as "
            f"{cfg.method}; take the config of {provenance.method}, or {option}"
        )
    check_normalisation(cfg.model.data_preprocessor, provenance, path)
    cfg.backbone_sha256 = provenance.weights_sha256  # other weights are another run


def check_normalisation(preprocessor: ConfigDict, provenance: Provenance, path: str) -> None:
    """Refuse to feed a backbone with images normalised in another way than in its pretraining.

    Raises:
        ValueError: gives both normalisations, in RGB and 0..255.
    """
    pretrained = [[255 * x for x in values] for values in (provenance.mean, provenance.std)]
    here = [list(preprocessor.mean), list(preprocessor.std)]
    if not preprocessor.bgr_to_rgb or not np.allclose(here, pretrained, rtol=0, atol=0.01):
        raise ValueError(
            f"{path} was pretrained on RGB images with mean {pretrained[0]} and std "
            f"{pretrained[1]}, the detector's data_preprocessor has mean {here[0]}, std {here[1]}, "
            f"bgr_to_rgb={preprocessor.bgr_to_rgb}; make model.data_preprocessor agree"
        )


def prepare_data(cfg: Config) -> None:
    """Point loaders and evaluator at ``data_root``, check the annotations, name the dataset.

    Raises:
        ValueError, FileNotFoundError: from :func:`transfer.data.splits.check_split` and
            :func:`check_dataset`.
    """
    root = Path(cfg.data_root)
    train, val = training_images(cfg), cfg.val_dataloader.dataset
    split = prepare_split(cfg, train) if "split" in cfg else {}
    summaries = [check_dataset(cfg, dataset) for dataset in (train, val)]
    cfg.test_dataloader.dataset.data_root = str(root)
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        evaluator.ann_file = str(root / val.ann_file)
    images = [
        summary.images if dataset.get("indices") is None else len(_listed(dataset.indices))
        for summary, dataset in zip(summaries, (train, val), strict=True)
    ]
    states = cfg.protocol.states
    as_stated = images == [states.train_images, states.val_images]
    if (Path(val.ann_file).name, summaries[1].images) == VAL2017:
        as_stated &= summaries[1].annotations == VAL2017_ANNOTATIONS
    counts = f"{images[0]}+{images[1]} images"
    if other := sum(summary.objects.other for summary in summaries):
        as_stated, counts = False, f"{counts}, without {other} objects of other categories"
    cfg.dataset = {
        "name": states.dataset if as_stated else f"{root.resolve().name} ({counts})",
        "train_images": images[0],
        "val_images": images[1],
        "fingerprints": [summary.fingerprint for summary in summaries],
        **split,
    }


def training_images(cfg: Config) -> ConfigDict:
    """The training dataset of a config, without what repeats it."""
    dataset = cfg.train_dataloader.dataset
    return dataset.get("dataset", dataset)


def _listed(indices: int | Sequence[int]) -> Sequence[int]:
    """mmengine's ``indices``: the first so many, or a list of them."""
    return range(indices) if isinstance(indices, int) else indices


def prepare_split(cfg: Config, train: ConfigDict) -> dict[str, Any]:
    """Take the annotation file of the split that ``cfg.split`` numbers, if it holds that split.

    Returns:
        What the run record says of the split.
    """
    root = Path(cfg.data_root)
    train.ann_file = train.ann_file.format(split=cfg.split)
    source = root / "annotations" / "instances_train2017.json"
    manifest = check_split(source, cfg.split_size, cfg.split, root / train.ann_file)
    return {
        "split": cfg.split,
        "split_ids_sha256": manifest["sha256"],
        "drawn_from_images": manifest["source_images"],
    }


def check_dataset(cfg: Config, dataset: ConfigDict) -> DatasetSummary:
    """Point a dataset at ``data_root``, and check its annotations, images and categories.

    Raises:
        ValueError, FileNotFoundError: from :func:`transfer.data.dataset_check.check_coco` and
            :func:`transfer.data.cityscapes.find_pairs`; the heads have other classes.
    """
    root, heads = Path(cfg.data_root), cfg.model.roi_head
    dataset.data_root = str(root)
    cityscapes = dataset.type == "CityscapesDataset"
    if cityscapes:
        find_pairs(root, Path(dataset.data_prefix.img).name)  # the evaluation reads gtFine itself
    own = DATASETS.get(dataset.type).METAINFO["classes"]
    categories = classes_of(dataset)
    if isinstance(categories, str):
        raise ValueError(
            f"metainfo.classes is the text {categories!r}; write the names: ({categories!r},)"
        )
    if cityscapes and tuple(categories) != own:
        raise ValueError(
            f"a detector of {len(categories)} of Cityscapes' {len(own)} classes: cityscapesScripts "
            "would count all others as missed; leave metainfo.classes out"
        )
    if {heads.bbox_head.num_classes, heads.mask_head.num_classes} != {len(categories)}:
        raise ValueError(
            f"bbox_head has {heads.bbox_head.num_classes} classes, mask_head "
            f"{heads.mask_head.num_classes}, the dataset {len(categories)}; set num_classes of "
            f"both to that; {OWN_DATASET}"
        )
    train = not dataset.get("test_mode", False)
    summary = check_coco(
        root / dataset.ann_file, root / dataset.data_prefix.img, categories,
        if_missing=NOT_PREPARED.format(root=root) if cityscapes else DOWNLOAD,
        compare_sizes=slice(get_rank(), None, get_world_size()),  # each process its share
        filter_cfg=dataset.get("filter_cfg") if train else None,
    )  # fmt: skip
    kept = f", {summary.images_left} left by filter_cfg" if train else ""
    counts = [f"{count} {kind}" for kind, count in vars(summary.objects).items() if count]
    print(
        f"{summary.annotation_file}: {summary.images} images{kept}; {', '.join(counts)}", flush=True
    )
    return summary


def classes_of(dataset: ConfigDict) -> Any:
    """The names of a dataset's labels: its config's, or else its type's."""
    named = (dataset.get("metainfo") or {}).get("classes")
    return DATASETS.get(dataset.type).METAINFO["classes"] if named is None else named


if __name__ == "__main__":
    main("Train Mask R-CNN on a pretrained, frozen or fine-tuned backbone.", prepare, NAMES)
