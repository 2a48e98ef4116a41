"""The learning rate of pretraining: a linear warm-up from 0, then half a cosine (section 5.1).

At every iteration it is that of SimCLR's reference code. mmengine's LinearLR would come to its peak
an iteration early, and with a warm-up of one iteration never.
"""

import math
from typing import Any

from mmengine.optim import OptimWrapper, _ParamScheduler
from mmengine.registry import PARAM_SCHEDULERS


def schedule(epochs: int, warmup_epochs: int) -> list[dict[str, Any]]:
    """Config of the learning rate's schedule, for ``param_scheduler``.

    Raises:
        ValueError: the warm-up does not fit.
    """
    if not 0 <= warmup_epochs < epochs:
        raise ValueError(
            f"a warm-up of {warmup_epochs} epochs does not fit into {epochs}; set "
            "--cfg-options warmup_epochs=N below epochs"
        )
    lengths = {"warmup": warmup_epochs, "end": epochs}
    return [{"type": "WarmupCosine", **lengths, "convert_to_iter_based": True}]


def learning_rate(base_lr: float, global_batch_size: int) -> float:
    """The peak: ``base_lr``, which is for 256 images, scaled linearly with the batch."""
    return float(base_lr * global_batch_size / 256)


@PARAM_SCHEDULERS.register_module()
class WarmupCosine(_ParamScheduler):
    """``lr * i / warmup`` in iteration i of the warm-up, counted from 0; then ``lr / 2 * (1 +
    cos(pi * (i - warmup) / (end - warmup)))``.

    Args:
        optimizer: its ``lr`` is the peak.
        warmup: iterations; may be 0.
        end: iterations of the run.
    """

    def __init__(self, optimizer: OptimWrapper, warmup: int, end: int) -> None:
        self.warmup = warmup
        super().__init__(optimizer, "lr", end=end, by_epoch=False)

    @classmethod
    def build_iter_from_epoch(
        cls, optimizer: OptimWrapper, warmup: int, end: int, epoch_length: int
    ) -> "WarmupCosine":
        """From lengths in epochs, of ``epoch_length`` iterations each."""
        return cls(optimizer, warmup * epoch_length, end * epoch_length)

    def _get_value(self) -> list[float]:
        i = self.last_step
        if i < self.warmup:
            factor = i / self.warmup
        else:
            done = (i - self.warmup) / (self.end - self.warmup)
            factor = (1 + math.cos(math.pi * done)) / 2
        return [factor * peak for peak in self.base_values]
