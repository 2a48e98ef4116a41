"""How things are called in tables, figures and the report, and in which order they stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping

EM_DASH = "\N{EM DASH}"  # stands where nothing ran
METHODS = {
    "random": "Random Init",
    "supervised": "Supervised",
    "simclr": "SimCLR",
    "gim": "GIM",
    "loco": "LoCo",
}
ARCHS = {"resnet50": "R-50", "shufflenetv2_50": "Sh-50", "presnet50": "PR-50"}
ENCODERS = {"resnet50": "ResNet-50", "presnet50": "PResNet-50"}  # Tables 6 and 8
STEP_METHODS = {  # of a footprint report
    "simclr": "SimCLR",
    "simclr_checkpoint": "SimCLR, recomputed",
    "gim": "GIM",
    "gim_recompute": "GIM, recomputed",
    "loco": "LoCo",
    "loco_recompute": "LoCo, recomputed",
    "loco_naive": "LoCo, naive",
}
DATASETS = {
    "imagenet1k": "ImageNet-1K",
    "coco2017": "COCO",
    "cityscapes": "Cityscapes",
    "coco10k": "COCO-10K",
    "coco1k": "COCO-1K",
    "scenes_coco": "Scenes, COCO format",
    "scenes_cityscapes": "Scenes, Cityscapes format",
    "scenes100": "100 scenes",
    "scenes20": "20 scenes",
    "scenes_shapes": "Shapes of the scenes",
}
METRICS = {"box_ap": "AP^bb", "mask_ap": "AP"}  # a caret raises what follows it
ACCURACIES = {
    "top1": "Acc.",
    "top5": "Acc. top-5",
    "knn_top1": "k-NN Acc.",
    "knn_top5": "k-NN top-5",
}
UNITS = {"flops_g": "G", "saving_ratio": "×"}  # behind a number; percent has none


def label(names: Mapping[str, str], name: str) -> str:
    """The label of `name`; a name that is not listed stands for itself."""
    return names.get(name, name)


def rank(names: Mapping[str, str]) -> Callable[[str], tuple[int, str]]:
    """A sort key: listed names in their order, then the others by alphabet."""
    order = {name: place for place, name in enumerate(names)}
    return lambda name: (order.get(name, len(order)), name)


def backbone_label(method: str, pretrain_epochs: int | None) -> str:
    """Which backbone: "LoCo, 100 epochs"; "Random Init"."""
    name = label(METHODS, method)
    return name if pretrain_epochs is None else f"{name}, {epochs_label(pretrain_epochs)}"


def epochs_label(epochs: int) -> str:
    """Whole epochs in words; a run that was cut short within the first has 0."""
    return {0: "less than 1 epoch", 1: "1 epoch"}.get(epochs, f"{epochs} epochs")
