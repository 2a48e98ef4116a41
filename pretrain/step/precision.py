"""Mixed precision for local learning: autocast, and loss scaling where float16 needs it.

mmengine's own wrapper refuses every device but a GPU and scales the loss inside a backward pass
that local learning does not have.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
PRECISIONS = ("float32", *DTYPES)


@OPTIM_WRAPPERS.register_module()
class MixedPrecision(OptimWrapper):
    """Weights and updates in float32, convolutions and matrix products in 16 bits.

    Args:
        dtype: ``bfloat16`` or ``float16``; the latter has too small a range for gradients, so its
            losses are scaled up, and a step whose gradients overflow is left out. On a CPU, oneDNN
            (torch 2.11) leaves bfloat16 weight gradients of 3x3 convolutions over 1x1 maps partly
            unset: keep images at 64 px or more there.
        optimizer: see mmengine's ``OptimWrapper``.
    """

    def __init__(self, dtype: str, **optimizer: Any) -> None:
        super().__init__(**optimizer)
        self.dtype = DTYPES[dtype]
        self.device = self.optimizer.param_groups[0]["params"][0].device.type
        self.scaler = GradScaler(self.device, enabled=dtype == "float16")

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast, without its cache of cast weights: every weight is met once a forward pass."""
        autocast = torch.autocast(self.device, dtype=self.dtype, cache_enabled=False)
        with super().optim_context(model), autocast:
            yield

    def scale_loss(self, loss: Tensor) -> Tensor:
        """What is to be differentiated in the place of ``loss``."""
        return self.scaler.scale(loss)

    def step(self, **kwargs: Any) -> None:
        """Update, by gradients brought back to their true size; skipped where one overflowed."""
        self.scaler.step(self.optimizer, **kwargs)
        self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "loss_scaler": self.scaler.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        state = dict(state_dict)
        self.scaler.load_state_dict(state.pop("loss_scaler"))
        super().load_state_dict(state)


def check_precision(precision: str) -> None:
    """Refuse a precision that is not known, or that the device at hand does not have.

    Raises:
        ValueError: names the precisions.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; it can be: {', '.join(PRECISIONS)}")
    gpu = torch.cuda.is_available()
    if precision == "bfloat16" and gpu and not torch.cuda.is_bf16_supported(False):
        raise ValueError(
            f"{torch.cuda.get_device_name()} has no bfloat16; set --cfg-options precision=float16"
        )
