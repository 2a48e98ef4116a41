"""Which norm really ran."""

import torch.distributed as dist
from mmengine.model.utils import _BatchNormXd
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pretrain.step.sync_norm import CPUSyncBatchNorm


class FoldedNorm(nn.Identity):
    """Stands where a frozen norm was, once it is folded into the convolution in front of it."""


def describe_norm(model: nn.Module) -> str:
    """In words, the kinds of norm layers in ``model`` in its training mode, for the run record.

    mmengine turns SyncBN into BN where no process group exists; this says so.
    """
    processes = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    kinds = []
    for module in model.modules():
        if not isinstance(module, _BatchNorm | FoldedNorm):
            continue
        if not module.training or isinstance(module, FoldedNorm):
            kinds.append("frozen BatchNorm")
        elif isinstance(module, nn.SyncBatchNorm | CPUSyncBatchNorm):
            kinds.append(f"SyncBatchNorm over {processes} processes")
        elif isinstance(module, _BatchNormXd):
            kinds.append("BatchNorm in place of SyncBN (one process)")
        else:
            kinds.append("BatchNorm per process" if processes > 1 else "BatchNorm (one process)")
    return " + ".join(sorted(set(kinds))) or "none"
