"""Whether a unit's embeddings still differ from image to image.

A collapsed unit gives every image the same embedding. Its loss stays at chance, log(2N - 1), and a
curve that falls at the other units can hide it.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable

import torch.nn.functional as F
from mmengine.hooks import Hook, LoggerHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, cat, nn
from torch.utils.hooks import RemovableHandle

from pretrain.engine.train_loop import model_of


@HOOKS.register_module()
class EmbeddingSpread(Hook):
    """Logs ``spread_<unit>`` whenever losses are logged, and warns of units that collapse.

    Args:
        threshold: of the spread. At 0.1 two views of different images have a mean cosine of 0.99,
            so the logits that InfoNCE tells apart lie within 0.1 of each other at tau = 0.1.
        patience: logs in a row below the threshold until the warning.
    """

    def __init__(self, threshold: float = 0.1, patience: int = 3) -> None:
        self.threshold, self.patience = threshold, patience
        self._low: Counter[str] = Counter()
        self._handles: list[RemovableHandle] = []

    def before_train(self, runner: Runner) -> None:
        self._logger = next((h for h in runner.hooks if isinstance(h, LoggerHook)), None)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        self._embeddings: dict[str, list[Tensor]] = defaultdict(list)
        if not self._is_logged(runner, batch_idx):
            return
        model = model_of(runner)
        for unit, decoder in zip(model.units, model.decoders, strict=True):
            self._handles.append(decoder.register_forward_hook(self._keep(unit.name)))

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: object = None,
        outputs: dict[str, Tensor] | None = None,
    ) -> None:
        while self._handles:
            self._handles.pop().remove()
        for name, parts in self._embeddings.items():
            found = spread(cat(parts))
            runner.message_hub.update_scalar(f"train/spread_{name}", found)
            self._low[name] = self._low[name] + 1 if found < self.threshold else 0
            if self._low[name] == self.patience:
                runner.logger.warning(
                    f"iteration {runner.iter + 1}: the embeddings of unit {name} have collapsed: "
                    f"in the last {self.patience} logs their spread was below {self.threshold} "
                    f"(now {found:.2g}; 1 is a uniform sphere). The unit learns nothing from equal "
                    "embeddings; start anew with a lower base_lr or a longer warm-up, and look at "
                    "the images: they may all be the same"
                )

    def _keep(self, name: str) -> Callable[[nn.Module, object, Tensor], None]:
        return lambda decoder, inputs, output: self._embeddings[name].append(output.detach())

    def _is_logged(self, runner: Runner, batch_idx: int) -> bool:
        return self._logger is not None and (
            self.every_n_inner_iters(batch_idx, self._logger.interval)
            or self.end_of_epoch(runner.train_dataloader, batch_idx)
        )


def spread(embeddings: Tensor) -> float:
    """The standard deviation of normalised embeddings over that of a uniform sphere, 1/sqrt(D).

    As Chen and He, 2021 (arXiv 2011.10566, section 4.1) measure collapse: over the batch in each
    channel, averaged over channels. 1 where directions are uniform, 0 where all are the same.

    Args:
        embeddings: (2N, D), of this process's part of the batch.
    """
    directions = F.normalize(embeddings.float(), dim=1)
    channels = directions.std(dim=0, correction=0)  # (D,)
    return float(channels.mean()) * math.sqrt(embeddings.shape[1])
