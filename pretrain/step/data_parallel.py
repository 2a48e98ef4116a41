"""Data-parallel training by one backward pass, of detectors and classifiers, on a CPU too.

The streamed backward has a wrapper of its own: :mod:`pretrain.local_data_parallel`.
"""

from typing import Any

from mmengine.dist import all_reduce_dict
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import MODEL_WRAPPERS
from torch import Tensor, nn

from pretrain.step.sync_norm import synchronise_on_cpu


@MODEL_WRAPPERS.register_module()
class AnyDeviceDataParallel(MMDistributedDataParallel):
    """mmengine's wrapper around torch's; without a GPU over Gloo, with a SyncBN that runs there.

    Args:
        module: the model.
        device_ids: the GPU of this process, as the Runner gives it; of no use to a model on a CPU.
        options: further arguments of torch's ``DistributedDataParallel``.

    Attributes:
        own_losses: of the last step, over this process's part of the batch.
    """

    def __init__(self, module: nn.Module, device_ids: list[int], **options: Any) -> None:
        synchronise_on_cpu(module)
        on_gpu = next(module.parameters()).is_cuda
        options = {"broadcast_buffers": False, **options}  # SyncBN keeps them equal
        super().__init__(module, device_ids=device_ids if on_gpu else None, **options)
        self.own_losses: dict[str, Tensor] = {}

    def train_step(self, data: Any, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """As mmengine's; the losses that it returns are averages over the processes."""
        self.own_losses = super().train_step(data, optim_wrapper)
        averages = {name: loss.detach().clone() for name, loss in self.own_losses.items()}
        all_reduce_dict(averages, op="mean")
        return averages
