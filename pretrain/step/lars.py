"""LARS as SimCLR's reference code has it (You et al., 2017; section 5.1).

The ports differ from it: the trust ratio here is ``eta * ||w|| / ||g + wd * w||``, and the
learning rate goes into the momentum buffer.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from torch import Tensor, nn
from torch.optim import Optimizer


@OPTIMIZERS.register_module()
class LARS(Optimizer):
    """Momentum SGD whose step is scaled, layer by layer, to the norm of the weights.

    Args:
        params: parameters or groups; a group with ``adapt=False`` gets plain momentum SGD.
        lr: learning rate.
        momentum: 0.9 in the reference.
        weight_decay: 1e-6 in the reference.
        eta: trust coefficient; 0.001 in the reference.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        eta: float = 0.001,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "eta": eta,
            "adapt": True,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        assert closure is None, "LARS takes no closure"
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                grad = weight.grad.add(weight, alpha=group["weight_decay"])
                lr = group["lr"] * (
                    _trust_ratio(weight, grad, group["eta"]) if group["adapt"] else 1
                )
                state = self.state[weight]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(weight)
                buffer = state["momentum_buffer"].mul_(group["momentum"]).add_(grad * lr)
                weight.sub_(buffer)


def _trust_ratio(weight: Tensor, decayed_grad: Tensor, eta: float) -> Tensor:
    """``eta * ||w|| / ||g + wd * w||``; 1 where either norm is zero. A scalar on the device."""
    weight_norm, grad_norm = weight.norm(), decayed_grad.norm()
    ratio = eta * weight_norm / grad_norm
    return torch.where((weight_norm > 0) & (grad_norm > 0), ratio, torch.ones_like(ratio))


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class ExcludeBiasAndNorm:
    """Two groups: weights; and biases and norm parameters, without decay and without adaptation."""

    def __init__(
        self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: dict[str, Any] | None = None
    ) -> None:
        self.config = optim_wrapper_cfg

    def __call__(self, model: nn.Module) -> OptimWrapper:
        parameters = [p for p in model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.ndim > 1]},
            {
                "params": [p for p in parameters if p.ndim <= 1],
                "weight_decay": 0.0,
                "adapt": False,
            },
        ]
        config = {"type": "OptimWrapper", **self.config}
        optimizer = OPTIMIZERS.build({**config.pop("optimizer"), "params": groups})
        return OPTIM_WRAPPERS.build(config, default_args={"optimizer": optimizer})
