"""Batch norm over the global batch on a CPU too, where torch's SyncBatchNorm refuses to run."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm


class CPUSyncBatchNorm(_BatchNorm):
    """The norm of ``nn.SyncBatchNorm`` on tensors of a CPU, over any process group, Gloo's for one.

    Every process takes part in one collective a forward pass and one a backward pass, also with an
    empty batch. As with torch's, the gradients of weight and bias are those of the process; that of
    the input is what the losses of all processes ask of it. No subclass of torch's, which
    ``DistributedDataParallel`` refuses on a CPU whatever it computes.
    """

    process_group: dist.ProcessGroup | None = None  # all processes

    def forward(self, input: Tensor) -> Tensor:
        """(N, C) or (N, C, ...), N of each process's own -> the same shape.

        Raises:
            ValueError: one value a channel over all processes, whose variance says nothing.
        """
        if not (self.training and dist.is_available() and dist.is_initialized()):
            return super().forward(input)
        self._check_input_dim(input)
        low = input.dtype in (torch.float16, torch.bfloat16)
        x = input.float() if low else input
        count, mean, variance = _global_moments(x.detach(), self.process_group)
        self._track(count, mean, variance)
        output = _Standardise.apply(  # type: ignore[no-untyped-call]
            x, mean, (variance + self.eps).rsqrt(), count, self.process_group
        )
        if self.affine:
            output = torch.addcmul(_along(self.bias, x), output, _along(self.weight, x))
        return output.to(input.dtype)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"batch norm expects (N, C, ...), got {tuple(input.shape)}")

    @torch.no_grad()
    def _track(self, count: int, mean: Tensor, variance: Tensor) -> None:
        """The running averages; of the variance the unbiased one, as everywhere in torch."""
        if self.running_mean is None or self.running_var is None or not count:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        unbiased = variance * (count / (count - 1))
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)


def synchronise_on_cpu(model: nn.Module) -> None:
    """Where ``model`` is on a CPU, make its SyncBatchNorms ones that run there.

    Their state stays what it is, and on a GPU so do they.
    """
    if next(model.parameters()).device.type != "cpu":
        return
    for module in model.modules():
        if isinstance(module, nn.SyncBatchNorm):
            module.__class__ = CPUSyncBatchNorm  # type: ignore[assignment]


def _global_moments(x: Tensor, group: dist.ProcessGroup | None) -> tuple[int, Tensor, Tensor]:
    """Values a channel, their mean and their variance (C,), over the batches of all processes.

    From every process's own moments (Chan et al., 1979): a sum of squares less the square of a sum
    would lose the digits of a small variance.
    """
    size = x.numel() // x.shape[1]
    mean = _channel_sums(x) / max(size, 1)
    squares = _channel_sums((x - _along(mean, x)).square())
    own = torch.cat([mean, squares, mean.new_tensor([size])])  # (2C + 1,)
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size(group))]
    dist.all_gather(parts, own, group=group)
    channels = x.shape[1]
    means, squares, sizes = torch.stack(parts).split([channels, channels, 1], dim=1)
    count = int(sizes.sum())
    if count == 1:
        raise ValueError(
            f"batch norm of one value a channel over all processes, got {tuple(x.shape)}; its "
            "variance needs two: make the batch or the image larger"
        )
    mean = (sizes * means).sum(0) / max(count, 1)
    total = (squares + sizes * (means - mean).square()).sum(0)
    return count, mean, total / max(count, 1)


class _Standardise(torch.autograd.Function):
    """``(x - mean) * scale``; backward knows that both come from the x of all processes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mean: Tensor, scale: Tensor, count: int, group: Any) -> Tensor:
        output = (x - _along(mean, x)) * _along(scale, x)
        ctx.save_for_backward(output, scale)
        ctx.count, ctx.group = count, group
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        output, scale = ctx.saved_tensors
        sums = torch.stack([_channel_sums(grad), _channel_sums(grad * output)])  # (2, C)
        dist.all_reduce(sums, group=ctx.group)
        shift, slope = (_along(row, grad) for row in sums / max(ctx.count, 1))
        return (grad - shift - output * slope) * _along(scale, grad), None, None, None, None


def _channel_sums(x: Tensor) -> Tensor:
    """(N, C, ...) -> (C,)."""
    return x.sum([dim for dim in range(x.ndim) if dim != 1])


def _along(values: Tensor, x: Tensor) -> Tensor:
    """(C,) -> (1, C, 1, ...), beside the channels of ``x``."""
    return values.view(1, -1, *[1] * (x.ndim - 2))
