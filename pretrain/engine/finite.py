"""Losses and weights that are no numbers any more end a run, before it can save them."""

import json
import math
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor
from torch.nn.utils import get_total_norm

from pretrain.engine.run_folder import last_good
from pretrain.engine.train_loop import model_of
from results.record.files import write_atomically
from results.record.text import some_of

BAD_BATCH = "bad_batch.json"  # in the work folder; of rank 1: bad_batch_rank1.json


class NotFinite(ArithmeticError):
    """A loss or a weight is NaN or infinite; says where, and what to continue from."""


@HOOKS.register_module()
class FiniteNumbers(Hook):
    """Stops the run after the first iteration whose losses or weights are not all finite.

    Of the losses it takes the values that mmengine has fetched for its log. The weights are looked
    at after their update, by their total norm: one pass over them and one number fetched an
    iteration. That finds a gradient that was not finite too, but not one that float16's loss
    scaling left out, as it should. Processes stop together: logged losses are averages over them,
    and their weights are equal.
    """

    priority = "HIGH"  # once the losses are fetched, before anything uses them or saves

    def before_train(self, runner: Runner) -> None:
        self._weights = [p for p in runner.model.parameters() if p.requires_grad]

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Tensor] | None = None,
    ) -> None:
        """Look at one iteration.

        Raises:
            NotFinite: once every process has written its part of the batch into BAD_BATCH.
        """
        logged = {name: runner.message_hub.get_scalar(f"train/{name}") for name in outputs or {}}
        losses = {name: float(history.current()) for name, history in logged.items()}
        with torch.no_grad():
            norm = float(get_total_norm(self._weights))
        if all(map(math.isfinite, (*losses.values(), norm))):
            return
        own = getattr(runner.model, "own_losses", losses)  # before they were averaged
        here = {name: float(loss) for name, loss in own.items()}
        write_bad_batch(runner, batch_idx, data_batch, here)
        units = {f"loss_{unit.name}": unit.name for unit in getattr(model_of(runner), "units", ())}
        faults = [
            f"{f'unit {units[name]}' if name in units else name} is {value}"
            for name, value in here.items()
            if not math.isfinite(value)
        ]
        which = f"rank {get_rank()} on {socket.gethostname()}: " if get_world_size() > 1 else ""
        told = [words for words in all_gather_object(faults and which + ", ".join(faults)) if words]
        if not told:
            names = bad_tensors(runner.model.named_parameters()) or ["their norm"]
            told = [f"the losses are finite, but the step's weights are not: {some_of(names)}"]
        raise NotFinite(
            f"iteration {runner.iter + 1}, epoch {runner.epoch + 1}: {'; '.join(told)}. "
            f"{last_good(Path(runner.work_dir))} The batch's images, learning rate and seed are in "
            f"{Path(runner.work_dir) / BAD_BATCH}. A continued run meets the same batch and the "
            "same numbers: look at these images, or start anew in another --work-dir with a lower "
            "base_lr or a longer warm-up"
        )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Look at all that is about to be saved, norm statistics and momentum too.

        Raises:
            NotFinite: some of it is not finite.
        """
        state = checkpoint.get("optimizer", {}).get("state", {})
        momentum = {f"optimizer {i} {k}": v for i, part in state.items() for k, v in part.items()}
        if names := bad_tensors({**checkpoint["state_dict"], **momentum}.items()):
            raise NotFinite(
                f"iteration {runner.iter + 1}: nothing saved, since these hold NaN or infinity: "
                f"{some_of(names)}. {last_good(Path(runner.work_dir))}"
            )


def bad_tensors(named: Iterable[tuple[str, Any]]) -> list[str]:
    """Names of the tensors that hold NaN or infinity; the device is asked once."""
    tensors = {name: t for name, t in named if isinstance(t, Tensor) and t.is_floating_point()}
    if not tensors:
        return []
    finite = torch.stack([tensor.isfinite().all().cpu() for tensor in tensors.values()])
    return [name for name, fine in zip(tensors, finite.tolist(), strict=True) if not fine]


def write_bad_batch(
    runner: Runner, batch_idx: int, data_batch: Any, losses: Mapping[str, float]
) -> None:
    """Write what this process was given into BAD_BATCH of the work folder.

    `images` are files; `keys`, epoch x images + index, draw the very same views of the dataset.
    """
    rank, loader = get_rank(), runner.train_dataloader
    name = BAD_BATCH if rank == 0 else BAD_BATCH.replace(".", f"_rank{rank}.")
    keys: Sequence[int] | None = None
    if "data_samples" in data_batch:  # mmdetection's, which groups images as it goes
        images = [sample.img_path for sample in data_batch["data_samples"]]
    else:
        loader.batch_sampler.start = batch_idx
        keys = next(iter(loader.batch_sampler))
        listed = getattr(loader.dataset, "images", None)  # features have none
        images = [str(listed.path(k % len(loader.dataset))) for k in keys] if listed else []
    content = {
        "iteration": runner.iter + 1,
        "epoch": runner.epoch + 1,
        "batch": batch_idx,
        "rank": rank,
        "host": socket.gethostname(),
        "seed": runner.seed,
        "learning_rate": runner.optim_wrapper.get_lr()["lr"],
        "losses": {k: v if math.isfinite(v) else str(v) for k, v in losses.items()},
        "images": images,
        "keys": keys,
    }
    write_atomically(
        Path(runner.work_dir) / name,
        (json.dumps(content, indent=2, allow_nan=False) + "\n").encode(),
    )
