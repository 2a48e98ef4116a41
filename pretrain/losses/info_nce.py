"""InfoNCE (Eq. 1) over two views, with negatives from every process."""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor


def info_nce(embeddings: Tensor, temperature: float) -> Tensor:
    """Eq. 1 with both views as queries and every other embedding of the global batch as a negative.

    Args:
        embeddings: (2N, D); rows i and i + N are two views of one image. Normalised here.
        temperature: tau of Eq. 1; 0.1 in SimCLR.

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
        keys = gather(queries)  # (2N * world_size, D)
        if keys.shape[0] < 4:
            raise ValueError(
                "InfoNCE has no negatives: it needs a global batch of at least 2 images"
            )
        first = rows * (dist.get_rank() if _distributed() else 0)
        row = torch.arange(rows, device=embeddings.device)
        logits = queries @ keys.T / temperature  # (2N, 2N * world_size)
        logits = logits.masked_fill(
            F.one_hot(row + first, keys.shape[0]).bool(), float("-inf")
        )  # a query is no key of its own
        positive = (row + rows // 2) % rows + first
        return F.cross_entropy(logits, positive)


def gather(tensor: Tensor) -> Tensor:
    """Rows of all processes, in rank order: (N, D) -> (N * world_size, D).

    The gradient of a row is the sum of what every process asks of it. Averaged over processes, as
    data-parallel training does with parameters, it is the gradient of the mean of all losses.
    """
    return _Gather.apply(tensor) if _distributed() else tensor  # type: ignore[no-untyped-call]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.contiguous()
        dist.all_reduce(grad)
        return grad.chunk(dist.get_world_size())[dist.get_rank()]


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
