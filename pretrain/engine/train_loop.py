"""The training loop that continues where a checkpoint was written, in the middle of an epoch too.

mmengine's loops go on at the next epoch, or read all batches again that were trained on already.
"""

import math
from itertools import islice
from typing import Any

from mmengine.dist import get_rank
from mmengine.model import is_model_wrapper
from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop, Runner

from pretrain.engine import sampler  # noqa: F401  (registers what resumable names)
from pretrain.engine.random_state import ITERATION, seed_everything


@LOOPS.register_module()
class ResumableLoop(EpochBasedTrainLoop):
    """Epochs of training, each iteration of which depends on the state before it alone.

    A checkpoint stands after an iteration, before what follows the last one of an epoch (schedules
    by epoch, validation): a continued run does all that is left of the epoch. Whether a run was
    broken off cannot be told from its results.

    Args:
        runner: mmengine's.
        dataloader: config of the loader, with ``DefaultSampler``; or with ``EpochKeySampler``, if
            the dataset takes its keys and seeds its transforms itself.
        max_epochs: length of the training.
        max_iters: its length in iterations instead; the last epoch may be incomplete.
        kwargs: of mmengine's ``EpochBasedTrainLoop``.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: dict[str, Any],
        max_epochs: int = 0,
        max_iters: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(runner, resumable(dataloader, runner.seed), max_epochs, **kwargs)
        if max_iters is not None:
            self._max_iters = max_iters
            self._max_epochs = math.ceil(max_iters / len(self.dataloader))

    def run(self) -> Any:
        """Train from the iteration after ``self.iter`` on, which is 0 or a checkpoint's."""
        self._epoch = max(0, self._iter - 1) // len(self.dataloader)  # that of the last iteration
        return super().run()

    def run_epoch(self) -> None:
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        first = self._epoch * len(self.dataloader)
        done = self._iter - first  # all of them, where a checkpoint stands at an epoch's end
        left = min(len(self.dataloader), self._max_iters - first) - done
        self.dataloader.batch_sampler.start = done
        for index, batch in enumerate(islice(self.dataloader, left), start=done):
            self.run_iter(index, batch)
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1

    def run_iter(self, idx: int, data_batch: Any) -> None:
        seed_everything(self.runner.seed, ITERATION, self._iter, get_rank())
        super().run_iter(idx, data_batch)


def model_of(runner: Runner) -> Any:
    """The model itself, without what mmengine wraps around it where several processes train it."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def resumable(dataloader: dict[str, Any], seed: int) -> dict[str, Any]:
    """The loader's config with an order that can be entered at any batch, and seeded samples.

    Args:
        dataloader: mmengine's config of a loader.
        seed: of the run.

    Raises:
        ValueError: its sampler is one whose order nobody knows here.
    """
    loader = dict(dataloader)
    order = dict(loader["sampler"])
    if order["type"] == "DefaultSampler":
        order["type"] = "EpochKeySampler"
        loader["dataset"] = {"type": "SeededSamples", "dataset": loader["dataset"], "seed": seed}
    if order["type"] != "EpochKeySampler":
        raise ValueError(
            f"train_dataloader.sampler is {order['type']}; a run can be continued exactly with "
            "DefaultSampler, or with EpochKeySampler where the dataset takes its keys"
        )
    return loader | {
        "sampler": order,
        "batch_sampler": {
            "type": "ResumableBatches",
            "batches": loader.get("batch_sampler"),
            "drop_last": loader.pop("drop_last", False),
        },
    }
