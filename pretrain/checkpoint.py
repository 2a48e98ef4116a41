"""Checkpoints of plain data, so that resuming unpickles nothing that could run code.

mmengine puts its log buffers into a checkpoint, and torch refuses to load those objects, rightly,
since 2.6. They only smooth the printed log, so they are left out; everything else is tensors and
plain Python.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner


@HOOKS.register_module()
class PlainCheckpoint(Hook):
    """Strips a checkpoint to tensors, numbers, strings, lists and dicts before it is written."""

    priority = "VERY_LOW"  # after the hooks that add something of their own

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        hub = checkpoint["message_hub"]
        information = {k: plain(v) for k, v in hub["runtime_info"].items() if is_plain(v)}
        checkpoint["message_hub"] = {
            "log_scalars": {},
            "runtime_info": information,
            "resumed_keys": {k: v for k, v in hub["resumed_keys"].items() if k in information},
        }
        for part in checkpoint.keys() - {"state_dict"}:
            checkpoint[part] = plain(checkpoint[part])


def is_plain(value: Any) -> bool:
    """Whether :func:`plain` can express ``value``."""
    try:
        plain(value)
    except TypeError:
        return False
    return True


def plain(value: Any) -> Any:
    """``value`` with NumPy's numbers and arrays as Python's, and any mapping as a dict.

    Raises:
        TypeError: it holds something else.
    """
    if isinstance(value, np.generic):  # first, since a NumPy float64 is a Python float too
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str, torch.Tensor)):
        return value
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(item) for item in value)
    raise TypeError(f"{type(value).__name__} is not plain data")
