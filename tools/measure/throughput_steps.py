"""A SimCLR step, ours and lightly's: same encoder, views, precision and optimizer."""

from collections.abc import Callable
from typing import Any

import torch
import torchvision
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from pretrain.backbone_file import IMAGENET_MEAN, IMAGENET_STD
from pretrain.model import LocalContrastive
from pretrain.step.precision import MixedPrecision

TEMPERATURE = 0.1
OPTIMIZER: dict[str, Any] = {"lr": 0.06, "momentum": 0.9, "weight_decay": 5e-4}  # lightly's example


def competitors(
    batch_size: int, size: int, precision: str, device: torch.device
) -> dict[str, Callable[[], int]]:
    """A step each of ours and lightly's, on the same views; a step returns its photographs.

    Args:
        batch_size: photographs; twice as many views.
        size: side of a view, in pixels.
        precision: ``float32`` or ``bfloat16``.
        device: where to.
    """
    torch.manual_seed(0)
    views = torch.randint(0, 256, (batch_size, 2, 3, size, size), dtype=torch.uint8, device=device)
    return {
        "ours": _finished(_ours(views, precision), device),
        "lightly": _finished(_lightly(views, precision), device),
    }


def _ours(views: Tensor, precision: str) -> Callable[[], int]:
    prepare = {"type": "TwoViewPreprocessor", "mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    decoder = {"conv_blocks": 0, "mlp_layers": 2, "out_dim": 128}  # configs/pretrain/simclr_r50.py
    loss = {"type": "InfoNCE", "temperature": TEMPERATURE}
    model = LocalContrastive("resnet50", "simclr", decoder, loss, prepare).to(views.device)
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), **OPTIMIZER)
    if precision == "float32":
        wrapper = OptimWrapper(optimizer)
    else:
        wrapper = MixedPrecision(precision, optimizer=optimizer)

    def step() -> int:
        model.train_step({"views": views}, wrapper)
        return len(views)

    return step


def _lightly(views: Tensor, precision: str) -> Callable[[], int]:
    """After examples/pytorch/simclr.py of lightly: the encoder runs on each view by itself."""
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead

    encoder = torchvision.models.resnet50()
    encoder.fc = nn.Identity()
    model = nn.Sequential(encoder, SimCLRProjectionHead(2048, 2048, 128)).to(views.device).train()
    criterion = NTXentLoss(temperature=TEMPERATURE)
    optimizer = torch.optim.SGD(model.parameters(), **OPTIMIZER)
    mean, std = (
        torch.tensor(values, device=views.device).view(1, 3, 1, 1)
        for values in (IMAGENET_MEAN, IMAGENET_STD)
    )
    # its transform normalises in the workers: no part of its step
    first, second = ((view / 255 - mean) / std for view in views.unbind(1))
    autocast = torch.autocast(views.device.type, torch.bfloat16, enabled=precision != "float32")

    def step() -> int:
        with autocast:
            loss = criterion(model(first), model(second))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return len(views)

    return step


def _finished(step: Callable[[], int], device: torch.device) -> Callable[[], int]:
    """The step, waited for."""

    def wait() -> int:
        images = step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return images

    return wait
