"""Files that could not be decoded during a run: named, counted, and too many of them refused."""

from typing import Any

from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

from pretrain.images.two_views import READABLE


@HOOKS.register_module()
class UnreadableImages(Hook):
    """Warns once of every file that :mod:`pretrain.images.two_views` had to replace.

    Attributes:
        found: their indices, after every epoch those of all processes.
    """

    def before_train(self, runner: Runner) -> None:
        self.found: set[int] = set()

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict[str, Tensor] | None = None,
        outputs: Any = None,
    ) -> None:
        """Look at a batch's ``unreadable``, (N,), on the CPU.

        Raises:
            UnreadableImage: more files than may be, as the dataset says.
        """
        if data_batch is not None:
            indices = data_batch["unreadable"]
            self._add(runner, indices[indices != READABLE].tolist())

    def after_train_epoch(self, runner: Runner) -> None:
        """Learn what the other processes met; raises as after an iteration."""
        self._add(runner, [i for found in all_gather_object(sorted(self.found)) for i in found])

    def after_train(self, runner: Runner) -> None:
        if self.found:
            images = runner.train_dataloader.dataset.images
            runner.logger.warning(
                f"{len(self.found)} of {len(images)} images could not be decoded and were "
                f"replaced: {', '.join(images.name(index) for index in sorted(self.found))}"
            )

    def _add(self, runner: Runner, indices: list[int]) -> None:
        dataset = runner.train_dataloader.dataset
        for index in sorted(set(indices) - self.found):
            self.found.add(index)
            runner.logger.warning(
                f"{dataset.images.path(index)} cannot be decoded, another image takes its place "
                f"({len(self.found)} of {len(dataset)} so far, {dataset.max_unreadable} may be)"
            )
        dataset.refuse_unreadable(sorted(self.found))
