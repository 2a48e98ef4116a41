"""Multiply-adds of convolutions and linear layers, forward and backward, as they are dispatched.

torch's own ``FlopCounterMode`` counts a multiply-add as two and, up to 2.11 at least, the weight
gradient of a grouped convolution as if it were not grouped; PResNet's last stage has 128 groups.
"""

from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten


class MultiplyAdds(TorchDispatchMode):
    """Counts while it is entered; everything but convolutions and matrix products is free.

    Attributes:
        passes: multiply-adds so far: of convolutions by pass, ``forward``, ``input_gradients`` and
            ``weight_gradients``; of matrix products in all passes together, ``linear``.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.passes: Counter[str] = Counter()

    @property
    def macs(self) -> int:
        """All multiply-adds so far."""
        return self.passes.total()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is aten.convolution.default:  # (input, weight, ...)
            self.passes["forward"] += result.numel() * args[1][0].numel()
        elif func is aten.convolution_backward.default:  # (grad, input, weight, ..., output_mask)
            input_gradient, weight_gradient, _ = args[-1]
            macs = args[0].numel() * args[2][0].numel()
            self.passes["input_gradients"] += macs * input_gradient
            self.passes["weight_gradients"] += macs * weight_gradient
        elif func is aten.mm.default:  # (M, K) @ (K, N)
            self.passes["linear"] += result.numel() * args[0].shape[1]
        elif func is aten.addmm.default:  # (bias, (M, K), (K, N))
            self.passes["linear"] += result.numel() * args[1].shape[1]
        elif func is aten.bmm.default:  # (B, M, K) @ (B, K, N)
            self.passes["linear"] += result.numel() * args[0].shape[2]
        return result
