"""Our frozen Mask R-CNN against mmdetection's own ResNet-50, frozen and fine-tuned.

The same images, the same FPN and heads, the same weights, in turn, in one run. ``frozen`` has
mmdetection's ResNet-50 with ``frozen_stages=4``; ``finetuned`` trains its stages from res3 up, as
mmdetection's 1x configs do.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import DATASETS, MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import OptimWrapper
from torch import nn

from pretrain.backbone_file import Provenance, write_backbone
from pretrain.costs.peak_memory import MIB, PeakMemory
from pretrain.encoders import Encoder, build_encoder
from tools.setup.machine import ROOT
from transfer.scenes.datasets import write_coco

CONFIG = ROOT / "configs/mask_rcnn_random_r50_frozen.py"
STOCK = {
    "type": "ResNet", "depth": 50, "num_stages": 4, "out_indices": (0, 1, 2, 3), "norm_eval": True,
    "norm_cfg": {"type": "BN", "requires_grad": True}, "style": "pytorch",
}  # fmt: skip
RIVALS = {"frozen": 4, "finetuned": 1}  # mmdetection's frozen_stages


def lively_encoder() -> Encoder:
    """A ResNet-50 with norm statistics of its own, as a trained one has."""
    torch.manual_seed(0)
    encoder = build_encoder("resnet50").train()
    with torch.no_grad():
        for _ in range(20):  # the running average forgets where it began
            encoder(torch.randn(4, 3, 64, 64))
    return encoder.eval()


def detectors(cfg: Config, folder: Path, device: torch.device) -> dict[str, nn.Module]:
    """``ours``, ``frozen``, ``finetuned``: in training mode, with the same weights."""
    encoder = lively_encoder()
    file = folder / "backbone.safetensors"
    write_backbone(encoder, file, Provenance.from_elsewhere("random", "resnet50"))
    ours = MODELS.build(
        {**cfg.model, "backbone": {**cfg.model.backbone, "backbone_file": str(file)}}
    )
    ours.init_weights()
    found = {"ours": ours}
    for name, frozen_stages in RIVALS.items():
        backbone = {**STOCK, "frozen_stages": frozen_stages}
        model = MODELS.build({**cfg.model, "backbone": backbone})
        model.backbone.load_state_dict(encoder.state_dict())
        for part in ("neck", "rpn_head", "roi_head"):
            getattr(model, part).load_state_dict(getattr(ours, part).state_dict())
        found[name] = model
    return {k: revert_sync_batchnorm(m).to(device).train() for k, m in found.items()}


def batches(cfg: Config, root: Path, size: int, count: int) -> list[dict[str, Any]]:
    """The first images of the training set, through the config's own pipeline."""
    dataset = cfg.train_dataloader.dataset
    dataset.data_root = str(root)
    images = DATASETS.build(dataset)
    if len(images) < size * count:
        sys.exit(f"error: {root} has {len(images)} images with objects, needed: {size * count}")
    torch.manual_seed(0)
    return [pseudo_collate([images[k * size + i] for i in range(size)]) for k in range(count)]


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    """Of a GPU the wall time to the end of what it has queued; of a CPU the processor's time.

    The latter is not lengthened by what else runs on the machine.
    """
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    start = clock()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def peak_mib(work: Callable[[], Any], device: torch.device) -> float:
    """What ``work()`` has alive at most beyond what was there: CUDA's account, or counted."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - before) / MIB
    with PeakMemory() as memory:
        work()
    return memory.peak_bytes / MIB


def medians(
    models: dict[str, Any], data: list[dict[str, Any]], repeats: int, device: torch.device
) -> dict[str, dict[str, Any]]:
    """Medians over ``repeats`` rounds after one that is not counted, the models in turn."""
    wrappers = {
        name: OptimWrapper(torch.optim.SGD(m.parameters(), 0.0, momentum=0.9, weight_decay=1e-4))
        for name, m in models.items()
    }  # a learning rate of 0: every round is the same work
    forward: dict[str, list[float]] = {name: [] for name in models}
    iteration: dict[str, list[float]] = {name: [] for name in models}
    peaks: dict[str, float] = {}
    for turn in range(1 + repeats):
        batch = data[turn % len(data)]
        for name, model in models.items():
            images = model.data_preprocessor(batch, training=True)["inputs"]
            torch.manual_seed(turn)

            step = partial(model.train_step, batch, wrappers[name])
            forward[name].append(seconds(partial(model.backbone, images), device))
            torch.manual_seed(turn)
            iteration[name].append(seconds(step, device))
            if turn == 0:
                peaks[name] = peak_mib(step, device)
    return {
        name: {
            "backbone_seconds": round(statistics.median(forward[name][1:]), 4),
            "iteration_seconds": round(statistics.median(iteration[name][1:]), 4),
            "iteration_seconds_all": [round(value, 4) for value in iteration[name][1:]],
            "peak_memory_mib": round(peaks[name], 1),
        }
        for name in models
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of this measurement."""
    parser.add_argument("--data-root", type=Path, help="COCO's layout; drawn scenes by default")
    parser.add_argument("--batch-size", type=int, default=2, help="images of an iteration")
    parser.add_argument("--scale", type=int, nargs=2, help="long and short side; the config's")
    parser.add_argument("--repeats", type=int, default=5)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds and memory of every detector, and ours over mmdetection's."""
    register_all_modules()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cfg = Config.fromfile(CONFIG)
    if args.scale:
        for step in cfg.train_dataloader.dataset.pipeline:
            if step.type == "Resize":
                step.scale = tuple(args.scale)
    with tempfile.TemporaryDirectory() as folder:
        root = args.data_root
        if root is None:
            root = Path(folder) / "scenes"
            write_coco(root, train=3 * args.batch_size, val=1, size=(640, 480), seed=0)
            names = [category["name"] for category in _categories(root)]
            cfg.train_dataloader.dataset.metainfo = {"classes": names}
        data = batches(cfg, root, args.batch_size, 2)
        models = detectors(cfg, Path(folder), device)
        found = medians(models, data, args.repeats, device)
    rival = found["frozen"]
    ratios = {
        key: round(found["ours"][key] / rival[key], 4)
        for key in ("backbone_seconds", "iteration_seconds", "peak_memory_mib")
    }
    for name, row in found.items():
        print(
            f"{name:10}{row['backbone_seconds']:9.3f} s backbone{row['iteration_seconds']:9.3f} s "
            f"iteration{row['peak_memory_mib']:9.0f} MiB peak"
        )
    print("ours over mmdetection's frozen: " + ", ".join(f"{k} {v:.3f}" for k, v in ratios.items()))
    return {
        "batch_size": args.batch_size,
        "scale": args.scale or [1333, 800],
        "detectors": found,
        "ours_over_frozen": ratios,
        "machine": {"threads": torch.get_num_threads(), "device": str(device)},
    }


def _categories(root: Path) -> list[dict[str, Any]]:
    document = json.loads((root / "annotations/instances_train2017.json").read_bytes())
    categories: list[dict[str, Any]] = document["categories"]
    return categories
