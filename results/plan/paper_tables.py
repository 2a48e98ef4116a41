"""Every run that a table or figure of the paper needs, and what it needs before it.

``{data}`` holds imagenet/, coco/ and cityscapes/. Runs that several tables need have one name.
"""

from __future__ import annotations

from collections.abc import Iterable

from results.plan.run import (
    METHODS,
    Run,
    convert_cityscapes,
    draw_split,
    footprint,
    readout,
    transfer,
)

ENCODERS = {"r50": "resnet50", "sh50": "shufflenetv2_50", "pr50": "presnet50"}
EPOCHS = (100, 800)  # the blocks of Tables 2 and 3
CONFIGS_EPOCHS = {"r50": 800, "sh50": 800, "pr50": 100}  # of configs/pretrain/
SPLITS = range(5)  # section 5.3
FEW = {"coco10k": ("10k", 10000), "coco1k": ("1k", 1000)}

# Rows of Tables 4, 5 and 7 that are runs of configs/pretrain/ at 100 epochs.
ALSO = {
    ("simclr", "r50"): ("table4_simclr",),
    ("gim", "r50"): ("table4_gim_1_conv_block", "table5_no_sharing"),
    ("loco", "r50"): ("table4_loco", "table5_1_stage"),
    ("simclr", "pr50"): ("table7_simclr_pr50",),
    ("gim", "pr50"): ("table7_gim_pr50",),
    ("loco", "pr50"): ("table7_loco_pr50",),
}


def pretraining(method: str, arch: str, epochs: int) -> Run:
    """A run of configs/pretrain/."""
    also = ALSO.get((method, arch), ()) if epochs == 100 else ()
    return Run(
        f"{method}_{arch}" + ("" if epochs == CONFIGS_EPOCHS[arch] else f"_{epochs}ep"), "pretrain",
        ("data_root={data}/imagenet/train", f"epochs={epochs}"),
        f"configs/pretrain/{method}_{arch}.py",
        also=tuple(f"configs/ablations/{name}.py" for name in also),
        method=method, encoder=ENCODERS[arch], epochs=epochs,
    )  # fmt: skip


def ablation(name: str, method: str) -> Run:
    """A run of configs/ablations/, with ResNet-50."""
    return Run(
        name, "pretrain", ("data_root={data}/imagenet/train",), f"configs/ablations/{name}.py",
        method=method, encoder="resnet50", epochs=100,
    )  # fmt: skip


def imagenet(of: Run) -> Run:
    """The readout of Tables 1, 4, 5 and 7 (section 5.1)."""
    arch = next(short for short, name in ENCODERS.items() if name == of.encoder)
    leaf = f"configs/linear/{of.method}_{arch}.py"
    config = "configs/_base_/linear.py" if arch == "pr50" else leaf  # method by the backbone file
    return readout(of, config, "data_root={data}/imagenet")


SUPERVISED = Run(
    "supervised_r50", "export",
    ("pretrain.export", "torchvision", "resnet50-19c8e357.pth", "--out",
     "backbones/supervised_resnet50.safetensors"),
    result="backbones/supervised_resnet50.safetensors",
)  # fmt: skip
CITYSCAPES = convert_cityscapes("cityscapes_annotations")


def backbones(arch: str, epochs: Iterable[int] = EPOCHS) -> list[Run]:
    """The pretrainings of one encoder, in the order of Tables 2 and 3."""
    return [pretraining(method, arch, e) for e in epochs for method in METHODS]


def frozen(weights: Run, arch: str, method: str) -> list[Run]:
    """Both halves of a row of Table 2."""
    block = "_100ep" if weights.epochs == 100 else ""
    row = (method, ENCODERS[arch], weights)
    coco = f"mask_rcnn_{method}_{arch}_frozen"
    return [
        transfer(f"{coco}{block}", coco, *row, "data_root={data}/coco"),
        transfer(
            f"{coco}_cityscapes{block}", f"{coco}_cityscapes", *row, "data_root={data}/cityscapes",
            needs=(CITYSCAPES,),
        ),
    ]  # fmt: skip


def finetuned(weights: Run | None, method: str) -> list[Run]:
    """A row of Table 3: two sizes, five splits each."""
    block = "_100ep" if weights and weights.epochs == 100 else ""
    return [
        transfer(
            f"mask_rcnn_{method}_r50_{dataset}{block}_split{split}",
            f"mask_rcnn_{method}_r50_{dataset}", method, "resnet50", weights,
            "data_root={data}/coco", f"split={split}", needs=(draw_split(*size, split),),
            split=split,
        )
        for dataset, size in FEW.items()
        for split in SPLITS
    ]  # fmt: skip


TABLE4 = {
    "simclr": ("simclr_1_conv_block", "simclr_2_layer_mlp"),
    "gim": (
        "gim", "gim_1_conv_block_without_downsampling", "gim_2_layer_mlp", "gim_2_conv_blocks",
        "gim_1_stage", "gim_full_network",
    ),
    "loco": ("loco_2_layer_mlp",),
}  # fmt: skip
TABLE5 = ("upper_layer_grad_only", "l2_1e2", "l2_1e3", "l2_1e4", "1_block", "2_blocks")
_R50_100EP = backbones("r50", [100])
_PR50 = backbones("pr50", [100])

PAPER: dict[str, list[Run]] = {
    "table1": [imagenet(run) for arch in ("r50", "sh50") for run in backbones(arch, [800])],
    "table2": [
        *frozen(SUPERVISED, "r50", "supervised"),
        *(
            half
            for epochs in EPOCHS
            for arch in ("r50", "sh50")
            for run in backbones(arch, [epochs])
            for half in frozen(run, arch, run.method)
        ),
    ],
    "table3": [
        *finetuned(None, "random"),
        *finetuned(SUPERVISED, "supervised"),
        *(one for run in backbones("r50") for one in finetuned(run, run.method)),
    ],
    "table4": [
        *map(imagenet, _R50_100EP),
        *(
            imagenet(ablation(f"table4_{name}", method))
            for method, names in TABLE4.items()
            for name in names
        ),
    ],
    "table5": [
        *map(imagenet, _R50_100EP[1:]),  # without sharing, and sharing one stage
        *(imagenet(ablation(f"table5_{name}", "loco")) for name in TABLE5),
    ],
    "table6": [footprint("resnet50"), footprint("presnet50")],
    "table7": [*map(imagenet, _PR50), footprint("presnet50")],
    "table8": [footprint("resnet50"), footprint("presnet50")],  # the blocks themselves are code
    "fig2": [*_R50_100EP[:2], ablation("appendix_a_loco_res2", "loco")],
    "fig3": [imagenet(run) for run in _PR50],  # a readout keeps the features that t-SNE embeds
    "fig4": finetuned(pretraining("loco", "r50", 800), "loco")[:1],  # on a COCO-10K
}
