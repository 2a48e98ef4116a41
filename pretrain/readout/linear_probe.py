"""Readout of a frozen encoder: linear classifiers and k-NN on the features of every stage.

    python -m pretrain.linear_probe --backbone FILE --data DIR --json FILE
    python -m pretrain.linear_probe --random resnet50 --data DIR --json FILE --cache-features
    bash tools/linear_probe.sh configs/linear/loco_r50.py 8

The names that ``--cfg-options`` may set, and that find their places here, are NAMES.
"""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import get_rank, is_main_process

from pretrain.backbone_file import read_provenance
from pretrain.engine import launch
from pretrain.engine.documented_names import COMMON, SEED, Name, check, fit_to_workers, together
from pretrain.engine.stated_protocol import state
from pretrain.engine.stopping import STOP
from pretrain.images.labelled_images import LabelledFiles, centre_crop, decode_once, read_splits
from pretrain.readout.frozen_encoder import FrozenEncoder, write_random_backbone
from pretrain.readout.knn import check_vote
from pretrain.readout.linear_record import (
    FEATURES_FOLDER,
    features_of,
    images_of,
    stated_values,
)
from pretrain.readout.stage_features import check_space
from pretrain.step.schedule import learning_rate
from results.record.run_record import FILE_NAME, RunRecord

DESCRIPTION = "Linear classifiers and k-NN on a frozen encoder, at every stage (section 5.1)."
CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "_base_"
PRESETS = {"paper": CONFIGS / "linear.py", "moco": CONFIGS / "linear_moco.py"}
RANDOM_BACKBONE = "random.safetensors"  # in the work folder
WHOLE = Name("a whole number", least=1)
NAMES = {
    **COMMON,
    "method": Name("a text", none=True),
    "encoder": Name("a text", none=True),
    "backbone_file": Name(
        "a text",
        none=True,
        sets=("backbone_sha256", "model.data_preprocessor.backbone_file"),
    ),
    "data_root": Name(
        "a text",
        sets=(
            "dataset", "model.classes", "train_dataloader.dataset", "val_dataloader.dataset",
            "val_evaluator",
        ),
    ),
    "epochs": WHOLE._replace(sets=("train_cfg.max_epochs",)),
    "milestones": Name("a list of whole numbers", sets=("param_scheduler",)),
    "image_size": WHOLE,
    "resize": WHOLE,
    "cache_features": Name("True or False"),
    "stages": Name("a text or a list of texts", sets=("model.data_preprocessor.stages",)),
    "k": WHOLE,
    "temperature": Name("a number above 0"),
    "global_batch_size": WHOLE._replace(
        sets=("train_dataloader.batch_size", "val_dataloader.batch_size")
    ),
    "seed": SEED,
    "protocol.states.train_images": WHOLE,
    "protocol.states.val_images": WHOLE,
    "protocol.states.classes": WHOLE,
}  # fmt: skip


def prepare(cfg: Config, world_size: int) -> None:
    """Put the documented names where they belong, and check the inputs.

    Raises:
        ValueError, FileNotFoundError: what was found, what was expected, how to repair it.
    """
    check(cfg, NAMES)
    state(cfg, stated_values)
    splits: dict[str, LabelledFiles] = {}
    together(
        lambda: splits.update(prepare_images(cfg)),
        lambda: launch.per_process(cfg.global_batch_size, world_size),
        lambda: centre_crop(cfg.image_size, cfg.resize),  # refuses sizes that do not fit
        lambda: check_vote(cfg.k, cfg.temperature),
        lambda: setattr(cfg, "param_scheduler", [schedule(cfg.epochs, cfg.milestones)]),
        lambda: prepare_backbone(cfg),
    )
    lists = [files.images for files in splits.values()]
    encoder = FrozenEncoder(cfg.backbone_file, cfg.stages)
    if not (folder := Path(cfg.work_dir) / FEATURES_FOLDER).is_dir():  # for k-NN, at the end
        check_space(folder, sum(len(split.images) for split in splits.values()), encoder.channels)
    stages, classes = encoder.stages, len(splits["train"].classes)
    cfg.model.classes = classes
    cfg.model.data_preprocessor.update(backbone_file=cfg.backbone_file, stages=cfg.stages)
    cfg.val_evaluator = {"type": "StageAccuracy", "stages": stages, "classes": classes}
    cfg.dataset = dataset(cfg, splits)
    batch = cfg.global_batch_size
    for split, loader in (("train", cfg.train_dataloader), ("val", cfg.val_dataloader)):
        if cfg.cache_features:  # a worker would take longer than reading the batch does
            loader.dataset, loader.num_workers = features_of(cfg, split), 0
            loader.collate_fn.type = "as_it_is"
        else:
            augmented = {"augment": True, "seed": cfg.seed} if split == "train" else {}
            loader.dataset = {"type": "LabelledImages", **images_of(cfg, split), **augmented}
        loader.batch_size = launch.per_process(batch, world_size)
        loader.persistent_workers = loader.get("num_workers", 0) > 0
        loader.pin_memory = torch.cuda.is_available()
    fit_to_workers(cfg)
    lr = learning_rate(cfg.base_lr, batch)
    cfg.optim_wrapper.optimizer.lr = lr
    print(f"learning rate {cfg.base_lr} x {batch} / 256 = {lr:g}", flush=True)
    cfg.train_cfg.max_epochs = cfg.epochs
    cfg.randomness = {**(cfg.get("randomness") or {}), "seed": cfg.seed}
    work_dir = Path(cfg.work_dir)
    if not (work_dir / FILE_NAME).exists() and not any(work_dir.glob("*.pth")):
        print("every image is decoded once before the run begins", flush=True)
        decode_once(*((listed, range(get_rank(), len(listed), world_size)) for listed in lists))


def prepare_images(cfg: Config) -> dict[str, LabelledFiles]:
    """The files of both splits, enough of them for a batch.

    Raises:
        ValueError, FileNotFoundError: there are none, or too few.
    """
    splits = read_splits(cfg.data_root)
    for files in splits.values():
        print(files.images.describe(), flush=True)
    images, batch = len(splits["train"].images), cfg.global_batch_size
    if batch > images:
        raise ValueError(
            f"a global batch of {batch} from {images} training images under {cfg.data_root}; set "
            f"--cfg-options global_batch_size=N, N from 1 to {images}"
        )
    return splits


def prepare_backbone(cfg: Config) -> None:
    """Settle the backbone file and take method and encoder from it.

    Raises:
        ValueError, FileNotFoundError: there is none, or it is not what the config says.
    """
    if cfg.method == "random" and cfg.backbone_file is None:
        if cfg.encoder is None:
            raise ValueError("random weights of which encoder? Set --random ENCODER")
        cfg.backbone_file = str(Path(cfg.work_dir) / RANDOM_BACKBONE)
        write_random_backbone(cfg.encoder, cfg.seed, cfg.backbone_file)
    if cfg.backbone_file is None:
        raise ValueError(
            "no backbone to read out; name one with --backbone FILE, or take --random ENCODER"
        )
    provenance = read_provenance(cfg.backbone_file)
    for name, found in (("method", provenance.method), ("encoder", provenance.encoder)):
        if cfg[name] not in (None, found):
            raise ValueError(
                f"{cfg.backbone_file} says {name} {found}, but the config reports its result as "
                f"{cfg[name]}; take the config of {found}, or name another file with "
                "--cfg-options backbone_file=FILE"
            )
    cfg.method, cfg.encoder = provenance.method, provenance.encoder
    cfg.backbone_sha256 = provenance.weights_sha256  # other weights are another run


def dataset(cfg: Config, splits: dict[str, LabelledFiles]) -> dict[str, Any]:
    """Name, counts and fingerprints: the protocol's name only where all its counts agree."""
    counts = {
        "train_images": len(splits["train"].images),
        "val_images": len(splits["val"].images),
        "classes": len(splits["train"].classes),
    }
    states = cfg.protocol.states
    folder = f"{Path(cfg.data_root).resolve().name} ({counts['train_images']}+" + (
        f"{counts['val_images']} images, {counts['classes']} classes)"
    )
    as_stated = all(states[name] == count for name, count in counts.items())
    return {
        "name": states.dataset if as_stated else folder,
        **counts,
        "fingerprints": [splits[name].images.fingerprint for name in ("train", "val")],
    }


def schedule(epochs: int, milestones: Sequence[int]) -> dict[str, Any]:
    """The learning rate falls by a factor of 10 after each of ``milestones``, in epochs.

    Raises:
        ValueError: they do not rise, or do not lie within the epochs.
    """
    drops = list(milestones)
    if drops != sorted(set(drops)) or any(not 0 < drop < epochs for drop in drops):
        raise ValueError(
            f"the learning rate is to fall after epochs {', '.join(map(str, drops))} of {epochs}; "
            "they must rise and lie within: set --cfg-options 'milestones=[A,B]' below epochs"
        )
    return {"type": "MultiStepLR", "milestones": drops, "gamma": 0.1, "by_epoch": True}


def parse_args(arguments: Sequence[str] | None = None) -> Namespace:
    """The command line; its shorthands become ``--cfg-options``."""
    parser = launch.argument_parser(DESCRIPTION, default_config="")
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument("--backbone", metavar="FILE", help="the backbone file to read out")
    weights.add_argument("--random", metavar="ENCODER", help="read out random weights instead")
    parser.add_argument("--data", metavar="DIR", help="holds train/CLASS/ and val/CLASS/")
    parser.add_argument(
        "--json",
        metavar="FILE",
        type=Path,
        help="write the run record there too; the run's folder is work_dirs/linear_NAME",
    )
    parser.add_argument(
        "--preset", choices=PRESETS, help="instead of CONFIG: the paper's recipe or MoCo's"
    )
    parser.add_argument(
        "--cache-features", action="store_true", help="no augmentation; embed each image once"
    )
    args = parser.parse_args(arguments)
    if args.config and args.preset:
        parser.error("a CONFIG has its own recipe: leave out --preset, or the config")
    if args.config and not args.work_dir:  # the backbone's own run is in work_dirs/NAME
        args.work_dir = f"work_dirs/linear_{Path(args.config).stem}"
    args.config = args.config or str(PRESETS[args.preset or "paper"])
    if args.json and not args.work_dir:
        args.work_dir = f"work_dirs/linear_{args.json.stem}"
    options = {"backbone_file": args.backbone, "data_root": args.data}
    if args.random:
        options |= {"method": "random", "encoder": args.random}
    if args.cache_features:
        options |= {"cache_features": "True"}
    given = {name: value for name, value in options.items() if value is not None}
    args.cfg_options = given | (args.cfg_options or {})
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the readout, or find it done; leave its record where ``--json`` says."""
    args = parse_args(arguments)
    launch.main(DESCRIPTION, prepare, NAMES, args)
    if is_main_process():
        record = RunRecord.read(Path(args.work_dir) / FILE_NAME)
        if args.json:
            record.write(args.json)
        for name, value in record.metrics.items():
            print(f"{name:16} {value:7.2f} %")


if __name__ == "__main__":
    STOP.listen()  # without a launcher that has begun to
    main()
