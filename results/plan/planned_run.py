"""A run that is planned: what a table needs, as data.

In its texts ``{runs}`` stands for the folder of the runs' own folders, ``{data}`` for the data's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

TRAINERS = ("pretrain", "linear", "transfer")  # kinds that end with a run record


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
        """The backbone file that a pretraining leaves."""
        return f"{{runs}}/{self.name}/backbone.safetensors"


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
        name=f"linear_{of.name}",
        kind="linear",
        config=config,
        arguments=(f"backbone_file={of.backbone}", *arguments),
        needs=(*needs, of),
        method=of.method,
        encoder=of.encoder,
        epochs=of.epochs,
    )


def transfer(
    name: str,
    config: str,
    method: str,
    encoder: str,
    weights: Run | None,
    *arguments: str,
    needs: tuple[Run, ...] = (),
    split: int | None = None,
) -> Run:
    """A detector on the backbone that `weights` leaves; None: on a random one."""
    backbone = () if weights is None else (f"backbone_file={weights.result or weights.backbone}",)
    return Run(
        name=name,
        kind="transfer",
        config=config,
        arguments=(*backbone, *arguments),
        needs=(*needs, *((weights,) if weights else ())),
        method=method,
        encoder=encoder,
        epochs=weights.epochs if weights else None,
        split=split,
    )
