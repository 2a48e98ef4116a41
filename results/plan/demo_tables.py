"""Tables 1, 2, 3 and 7 on the drawn scenes: the paper's plans with tiny encoders, in minutes.

``{data}`` holds coco/, cityscapes/ and shapes/, which are drawn first. One block of 25 epochs and
one encoder a table stand for the two of each in the paper. Runs have the names that tools/demo.py
gives them.
"""

from __future__ import annotations

from results.plan.run import (
    METHODS,
    Run,
    convert_cityscapes,
    draw_split,
    footprint,
    readout,
    transfer,
)

EPOCHS = 25
COUNTS = ("--train", "400", "--val", "60")
SPLITS = range(3)
FEW = (100, 20)  # for COCO-10K and COCO-1K


def scenes(kind: str) -> Run:
    """The drawn scenes in COCO's or Cityscapes' own format."""
    arguments = ("transfer.scenes", f"{{data}}/{kind}", "--format", kind, *COUNTS)
    return Run(f"draw_{kind}", "draw", arguments, result=f"{{data}}/{kind}/scenes.json")


COCO = scenes("coco")
CITYSCAPES = convert_cityscapes("convert_cityscapes", needs=(scenes("cityscapes"),))
SHAPES = Run(
    "cut_out_shapes", "draw", ("transfer.scenes.crops", "{data}/coco", "{data}/shapes"),
    result="{data}/shapes/val", needs=(COCO,),
)  # fmt: skip


def pretraining(method: str, encoder: str = "resnet_tiny") -> Run:
    """A run of configs/demo/pretrain_METHOD.py."""
    other = encoder != "resnet_tiny"
    options = (f"model.encoder={encoder}",) if other else ()
    return Run(
        f"pretrain_{method}" + f"_{encoder}" * other, "pretrain",
        ("data_root={data}/coco/train2017", *options), f"configs/demo/pretrain_{method}.py",
        needs=(COCO,), method=method, encoder=encoder, epochs=EPOCHS,
    )  # fmt: skip


def shapes(of: Run) -> Run:
    """Which of five shapes is it, from frozen features."""
    return readout(of, "configs/demo/linear.py", "data_root={data}/shapes", needs=(SHAPES,))


def row(method: str) -> tuple[str, str, Run | None]:
    """Method, encoder and weights of a row of Tables 2 and 3."""
    return method, "resnet_tiny", None if method == "random" else pretraining(method)


def frozen(method: str) -> list[Run]:
    """Both halves of a row of Table 2."""
    return [
        transfer(name, f"demo/{name}", *row(method), f"data_root={{data}}/{data}", needs=(need,))
        for name, data, need in (
            (f"mask_rcnn_{method}", "coco", COCO),
            (f"mask_rcnn_{method}_cityscapes", "cityscapes", CITYSCAPES),
        )
    ]


def finetuned(method: str) -> list[Run]:
    """A row of Table 3; Random Init trains all stages (section 5.3)."""
    stages = ("model.backbone.frozen_stages=0", "protocol.states.frozen_stages=0")
    return [
        transfer(
            f"mask_rcnn_{method}_scenes{size}_split{seed}", f"demo/mask_rcnn_scenes{size}",
            *row(method), "data_root={data}/coco", f"method={method}", f"split={seed}",
            *(stages if method == "random" else ()),
            needs=(draw_split(str(size), size, seed, (COCO,)),), split=seed,
        )
        for size in FEW
        for seed in SPLITS
    ]  # fmt: skip


FOOTPRINT = footprint(  # the search for the best set of stages to recompute takes a minute
    "presnet_tiny", "--image-size", "48", "--recompute", "res2"
)

DEMO: dict[str, list[Run]] = {
    "table1": [shapes(pretraining(method)) for method in METHODS],
    "table2": [half for method in ("random", *METHODS) for half in frozen(method)],
    "table3": [one for method in ("random", *METHODS) for one in finetuned(method)],
    "table7": [*(shapes(pretraining(method, "presnet_tiny")) for method in METHODS), FOOTPRINT],
}
