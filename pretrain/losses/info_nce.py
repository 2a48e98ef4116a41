"""InfoNCE (Eq. 1) over two views, with negatives from every process."""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from pretrain.losses.contract import LOSSES, Batch, LocalLoss


@LOSSES.register_module()
class InfoNCE(LocalLoss):
    """:func:`info_nce` as the loss of a unit.

    Args:
        temperature: tau of Eq. 1; 0.1 in SimCLR.

    Raises:
        ValueError: the temperature is not above 0.
    """

    def __init__(self, temperature: float) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"the temperature of InfoNCE is {temperature}; expected above 0")
        self.temperature = temperature

    def forward(self, embeddings: Tensor, batch: Batch) -> Tensor:
        """(2N, D) -> the mean over this process's 2N queries, in nats."""
        return info_nce(embeddings, self.temperature, self.process_group)


def info_nce(
    embeddings: Tensor, temperature: float, group: dist.ProcessGroup | None = None
) -> Tensor:
    """Eq. 1 with both views as queries and every other embedding of the global batch as a negative.

    Args:
        embeddings: (2N, D); rows i and i + N are two views of one image. Normalised here.
        temperature: tau of Eq. 1.
        group: processes that share a global batch; None means all.

    Returns:
        The mean over this process's 2N queries, in nats; a scalar in float32 or better.

    Raises:
        ValueError: an odd number of rows, or fewer than two images over all processes.
    """
    rows = embeddings.shape[0]
    if rows % 2:
        raise ValueError(
            f"InfoNCE needs two views of each image, got an odd number of rows: {rows}"
        )
    if embeddings.dtype in (torch.float16, torch.bfloat16):
        embeddings = embeddings.float()
    with torch.autocast(embeddings.device.type, enabled=False):  # logits of 16 bits err by 0.03
        queries = F.normalize(embeddings, dim=1)  # (2N, D)
        keys = gather(queries, group)  # (2N * world_size, D)
        if keys.shape[0] < 4:
            raise ValueError(
                "InfoNCE has no negatives: it needs a global batch of at least 2 images"
            )
        first = rows * (dist.get_rank(group) if _distributed(group) else 0)
        row = torch.arange(rows, device=embeddings.device)
        logits = queries @ keys.T / temperature  # (2N, 2N * world_size)
        logits = logits.masked_fill(
            F.one_hot(row + first, keys.shape[0]).bool(), float("-inf")
        )  # a query is no key of its own
        positive = (row + rows // 2) % rows + first
        return F.cross_entropy(logits, positive)


def gather(tensor: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
    """Rows of all processes, in rank order: (N, D) -> (N * world_size, D).

    The gradient of a row is the sum of what every process asks of it. Averaged over processes, as
    data-parallel training does with parameters, it is the gradient of the mean of all losses.
    """
    if not _distributed(group):
        return tensor
    return _Gather.apply(tensor, group)  # type: ignore[no-untyped-call]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, group: dist.ProcessGroup | None) -> Tensor:
        ctx.group = group
        parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size(group))]
        dist.all_gather(parts, tensor.contiguous(), group=group)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        grad = grad.contiguous()
        dist.all_reduce(grad, group=ctx.group)
        return grad.chunk(dist.get_world_size(ctx.group))[dist.get_rank(ctx.group)], None


def _distributed(group: dist.ProcessGroup | None) -> bool:
    initialised = dist.is_available() and dist.is_initialized()
    return initialised and dist.get_world_size(group) > 1
