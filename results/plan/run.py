"""A run that a table needs, as data: its command, and the file that it leaves.

In its texts ``{runs}`` stands for the folder of the runs' own folders, ``{data}`` for the data's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

TRAINERS = ("pretrain", "linear", "transfer")  # kinds that end with a run record
METHODS = ("simclr", "gim", "loco")


@dataclass(frozen=True)
class Run:
    """One command and the file that is there once it has ended well.

    What `method` to `split` say is what the run's record has to say.
    """

    name: str  # of its folder
    kind: str  # one of TRAINERS, else what it does to prepare one
    arguments: tuple[str, ...]  # a trainer's --cfg-options; else a module and its arguments
    config: str = ""  # a trainer's, from the repository's root
    also: tuple[str, ...] = ()  # configs that describe this very run
    result: str = ""  # of what is no trainer
    needs: tuple[Run, ...] = ()
    method: str = ""
    encoder: str = ""
    epochs: int | None = None  # of pretraining
    split: int | None = None

    @property
    def backbone(self) -> str:
        """The backbone file that it leaves."""
        return self.result or f"{{runs}}/{self.name}/backbone.safetensors"


def in_order(runs: Iterable[Run]) -> tuple[Run, ...]:
    """The runs and all that they need, each once, needs first."""
    ordered: dict[str, Run] = {}
    for run in runs:
        for found in (*in_order(run.needs), run):
            ordered.setdefault(found.name, found)
    return tuple(ordered.values())


def readout(of: Run, config: str, *arguments: str, needs: tuple[Run, ...] = ()) -> Run:
    """Linear classifiers and k-NN on the backbone that a pretraining leaves."""
    return Run(
        f"linear_{of.name}", "linear", (f"backbone_file={of.backbone}", *arguments), config,
        needs=(*needs, of), method=of.method, encoder=of.encoder, epochs=of.epochs,
    )  # fmt: skip


def transfer(
    name: str, config: str, method: str, encoder: str, weights: Run | None, *arguments: str,
    needs: tuple[Run, ...] = (), split: int | None = None,
) -> Run:  # fmt: skip
    """A detector on the backbone that `weights` leaves; None: on a random one."""
    backbone = [f"backbone_file={weights.backbone}"] if weights else []
    return Run(
        name, "transfer", (*backbone, *arguments), f"configs/{config}.py",
        needs=(*needs, weights) if weights else needs, method=method, encoder=encoder,
        epochs=weights.epochs if weights else None, split=split,
    )  # fmt: skip


def draw_split(size_name: str, size: int, seed: int, needs: tuple[Run, ...] = ()) -> Run:
    """A few of COCO's training images; the list of their ids is written last."""
    annotations = "{data}/coco/annotations/instances_train2017"
    out = f"{annotations}_{size_name}_seed{seed}"
    arguments = (f"{annotations}.json", "--size", str(size), "--seed", str(seed), "--out")
    return Run(
        f"split_{size_name}_{seed}", "split",
        ("transfer.splits", *arguments, f"{out}.json"), result=f"{out}.ids.json", needs=needs,
    )  # fmt: skip


def convert_cityscapes(name: str, needs: tuple[Run, ...] = ()) -> Run:
    """Cityscapes' annotations in COCO's format."""
    return Run(
        name, "convert",
        ("transfer.prepare", "cityscapes", "--data-root", "{data}/cityscapes"),
        result="{data}/cityscapes/annotations/instancesonly_filtered_gtFine_val.json", needs=needs,
    )  # fmt: skip


def footprint(encoder: str, *arguments: str) -> Run:
    """Memory and computation of each stage and of a step of every method (Tables 6 and 7)."""
    out = f"{{runs}}/footprint_{encoder}/footprint.json"
    words = ("pretrain.footprint", "--encoder", encoder, *arguments, "--json", out)
    return Run(f"footprint_{encoder}", "footprint", words, result=out)
