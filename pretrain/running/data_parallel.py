"""Data-parallel training by one backward pass, of detectors and classifiers, on a CPU too.

The streamed backward has a wrapper of its own: :mod:`pretrain.parallel`.
"""

from typing import Any

from mmengine.model import MMDistributedDataParallel
from mmengine.registry import MODEL_WRAPPERS
from torch import nn

from pretrain.sync_norm import synchronise_on_cpu


@MODEL_WRAPPERS.register_module()
class AnyDeviceDataParallel(MMDistributedDataParallel):
    """mmengine's wrapper around torch's; without a GPU over Gloo, with a SyncBN that runs there.

    Args:
        module: the model.
        device_ids: the GPU of this process, as the Runner gives it; of no use to a model on a CPU.
        options: further arguments of torch's ``DistributedDataParallel``.
    """

    def __init__(self, module: nn.Module, device_ids: list[int], **options: Any) -> None:
        synchronise_on_cpu(module)
        on_gpu = next(module.parameters()).is_cuda
        options = {"broadcast_buffers": False, **options}  # SyncBN keeps them equal
        super().__init__(module, device_ids=device_ids if on_gpu else None, **options)
