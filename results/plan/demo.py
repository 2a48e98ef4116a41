"""Tables 1, 2, 3 and 7 on the drawn scenes: the paper's plans with tiny encoders, in minutes.

``{data}`` holds coco/, cityscapes/ and shapes/, which are drawn first. One block of 25 epochs and
one encoder a table stand for the two of each in the paper. Runs of the demo have the names that
tools/demo.py gives them.
"""

from __future__ import annotations

from results.plan.planned_run import Run, readout, transfer

METHODS = ("simclr", "gim", "loco")
EPOCHS = 25
COUNTS = ("--train", "400", "--val", "60")
SPLITS = range(3)
FEW = (100, 20)  # for COCO-10K and COCO-1K


def scenes(kind: str) -> Run:
    """The drawn scenes in COCO's or Cityscapes' own format."""
    return Run(
        name=f"draw_{kind}",
        kind="draw",
        arguments=("transfer.scenes", f"{{data}}/{kind}", "--format", kind, *COUNTS),
        result=f"{{data}}/{kind}/scenes.json",
    )


COCO = scenes("coco")
CITYSCAPES = Run(
    name="convert_cityscapes",
    kind="convert",
    arguments=("transfer.prepare", "cityscapes", "--data-root", "{data}/cityscapes"),
    result="{data}/cityscapes/annotations/instancesonly_filtered_gtFine_val.json",
    needs=(scenes("cityscapes"),),
)
SHAPES = Run(
    name="cut_out_shapes",
    kind="draw",
    arguments=("transfer.scenes.crops", "{data}/coco", "{data}/shapes"),
    result="{data}/shapes/val",
    needs=(COCO,),
)


def pretraining(method: str, encoder: str = "resnet_tiny") -> Run:
    """A run of configs/demo/pretrain_METHOD.py."""
    tiny = encoder == "resnet_tiny"
    return Run(
        name=f"pretrain_{method}" + ("" if tiny else f"_{encoder}"),
        kind="pretrain",
        config=f"configs/demo/pretrain_{method}.py",
        arguments=(
            "data_root={data}/coco/train2017",
            *(() if tiny else (f"model.encoder={encoder}",)),
        ),
        needs=(COCO,),
        method=method,
        encoder=encoder,
        epochs=EPOCHS,
    )


def shapes(of: Run) -> Run:
    """Which of five shapes is it, from frozen features."""
    return readout(of, "configs/demo/linear.py", "data_root={data}/shapes", needs=(SHAPES,))


def frozen(method: str) -> list[Run]:
    """Both halves of a row of Table 2."""
    weights = None if method == "random" else pretraining(method)
    row = (method, "resnet_tiny", weights)
    coco, cityscapes = f"mask_rcnn_{method}", f"mask_rcnn_{method}_cityscapes"
    return [
        transfer(coco, f"configs/demo/{coco}.py", *row, "data_root={data}/coco", needs=(COCO,)),
        transfer(
            *(cityscapes, f"configs/demo/{cityscapes}.py", *row),
            "data_root={data}/cityscapes",
            needs=(CITYSCAPES,),
        ),
    ]


def split(size: int, seed: int) -> Run:
    """A few of the drawn scenes."""
    out = f"{{data}}/coco/annotations/instances_train2017_{size}_seed{seed}"
    return Run(
        name=f"split_{size}_{seed}",
        kind="split",
        arguments=(
            *("transfer.splits", "{data}/coco/annotations/instances_train2017.json"),
            *("--size", str(size), "--seed", str(seed), "--out", f"{out}.json"),
        ),
        result=f"{out}.ids.json",
        needs=(COCO,),
    )


def finetuned(method: str) -> list[Run]:
    """A row of Table 3; Random Init trains all stages (section 5.3)."""
    random = method == "random"
    stages = ("model.backbone.frozen_stages=0", "protocol.states.frozen_stages=0") if random else ()
    return [
        transfer(
            f"mask_rcnn_{method}_scenes{size}_split{seed}",
            f"configs/demo/mask_rcnn_scenes{size}.py",
            *(method, "resnet_tiny", None if random else pretraining(method)),
            *("data_root={data}/coco", f"method={method}", f"split={seed}", *stages),
            needs=(split(size, seed),),
            split=seed,
        )
        for size in FEW
        for seed in SPLITS
    ]


FOOTPRINT = Run(
    name="footprint_presnet_tiny",
    kind="footprint",
    arguments=(
        *("pretrain.footprint", "--encoder", "presnet_tiny", "--image-size", "48"),
        *("--recompute", "res2"),  # the search for the best set takes a minute
        *("--json", "{runs}/footprint_presnet_tiny/footprint.json"),
    ),
    result="{runs}/footprint_presnet_tiny/footprint.json",
)

DEMO: dict[str, list[Run]] = {
    "table1": [shapes(pretraining(method)) for method in METHODS],
    "table2": [half for method in ("random", *METHODS) for half in frozen(method)],
    "table3": [one for method in ("random", *METHODS) for one in finetuned(method)],
    "table7": [*(shapes(pretraining(method, "presnet_tiny")) for method in METHODS), FOOTPRINT],
}
