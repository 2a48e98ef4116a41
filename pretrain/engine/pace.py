"""How fast a run goes: said early, and images a second in every log."""

import time
from datetime import timedelta
from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

EARLY = (1, 2, 5, 10, 20)  # iterations since the start, after which a line is logged
WINDOW = 10  # iterations that a rate is the mean of


@HOOKS.register_module()
class Pace(Hook):
    """Logs seconds an iteration and the time that is left after the first iterations; adds
    ``images_per_s``, over all processes, to what is logged later."""

    def before_train(self, runner: Runner) -> None:
        self._done = 0
        self._ends = [time.monotonic()]

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        self._done += 1
        self._ends = [*self._ends[-WINDOW:], time.monotonic()]
        seconds = (self._ends[-1] - self._ends[0]) / (len(self._ends) - 1)
        images = runner.cfg.get("global_batch_size", 0) / max(seconds, 1e-9)
        runner.message_hub.update_scalar("train/images_per_s", images)
        if self._done in EARLY:
            left_s = int(seconds * (runner.max_iters - runner.iter - 1))
            runner.logger.info(
                f"iteration {runner.iter + 1} of {runner.max_iters}: {seconds:.2f} s an iteration, "
                f"{images:.1f} images a second, about {timedelta(seconds=left_s)} left"
            )
