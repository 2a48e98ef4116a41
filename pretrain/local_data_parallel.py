"""Data-parallel local learning: a finished gradient is averaged while the next one is computed.

mmengine's own wrapper would call torch's DDP forward and one backward, and so pass by the streamed
backward. This one leaves the step to the model and listens to when parameters are ready.
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from mmengine.optim import OptimWrapper
from mmengine.registry import MODEL_WRAPPERS
from torch import Tensor, nn

from pretrain.losses import LocalLoss
from pretrain.model import LocalContrastive
from pretrain.step.sync_norm import CPUSyncBatchNorm, synchronise_on_cpu


@MODEL_WRAPPERS.register_module()
class LocalDistributed(nn.Module):
    """One model a process, the same weights in all of them, gradients averaged.

    Each decoder and each segment of the encoder is a bucket: its gradients become views of one
    tensor, which is averaged in place, so there is no second copy of them.

    Args:
        module: the model; the first process's weights and buffers are given to every other one.
        process_group: that share a global batch; None means all.

    Attributes:
        own_losses: of the last step, over this process's part of the batch.
    """

    def __init__(
        self, module: LocalContrastive, process_group: dist.ProcessGroup | None = None
    ) -> None:
        super().__init__()
        self.module = module
        self.process_group = process_group
        synchronise_on_cpu(module)
        for part in module.modules():
            if isinstance(part, LocalLoss | nn.SyncBatchNorm | CPUSyncBatchNorm):
                part.process_group = process_group
        self.own_losses: dict[str, Tensor] = {}
        self._in_flight: list[tuple[dist.Work, Tensor]] = []
        with torch.no_grad():
            for tensor in [*module.parameters(), *module.buffers()]:
                dist.broadcast(tensor, group=process_group, group_src=0)

    def train_step(self, data: dict[str, Tensor], optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """As :meth:`LocalContrastive.train_step`, over the global batch; losses are averages."""
        losses = self.module.local_gradients(data, optim_wrapper, self._start_average)
        self.own_losses = losses
        self._finish_averages()
        self.module.update(optim_wrapper)
        stacked = torch.stack(list(losses.values()))
        dist.all_reduce(stacked, group=self.process_group)
        processes = dist.get_world_size(self.process_group)
        return dict(zip(losses, stacked / processes, strict=True))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.module(images)

    def _start_average(self, parameters: Sequence[nn.Parameter]) -> None:
        trained = [parameter for parameter in parameters if parameter.grad is not None]
        if not trained:
            return
        sizes = [parameter.numel() for parameter in trained]
        bucket = trained[0].new_empty(sum(sizes))
        for parameter, piece in zip(trained, bucket.split(sizes), strict=True):
            view = piece.as_strided(parameter.size(), parameter.stride())  # its memory format
            parameter.grad = view.copy_(parameter.grad)
        work = dist.all_reduce(bucket, group=self.process_group, async_op=True)
        assert work is not None
        self._in_flight.append((work, bucket))

    def _finish_averages(self) -> None:
        for work, bucket in self._in_flight:
            work.wait()
            bucket /= dist.get_world_size(self.process_group)
        self._in_flight.clear()
