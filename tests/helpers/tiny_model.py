"""A model of the paper's parts that is small enough for a test."""

from typing import Any

import torch

from pretrain.model import LocalContrastive

INFO_NCE = {"type": "InfoNCE", "temperature": 0.1}
TWO_VIEWS = {"type": "TwoViewPreprocessor", "mean": [0.5] * 3, "std": [0.25] * 3}


def tiny_model(units: Any = "loco", encoder: str = "resnet_tiny", **options: Any):
    """In float64 and in training mode, with the same weights each time.

    Args:
        units: see :class:`LocalContrastive`.
        encoder: its name.
        options: further arguments; ``decoder`` adds to one conv block and 16 dimensions.
    """
    torch.manual_seed(0)
    decoder = {"conv_blocks": 1, "out_dim": 16, **options.pop("decoder", {})}
    given = {"loss": INFO_NCE, "data_preprocessor": {"type": "BaseDataPreprocessor"}, **options}
    return LocalContrastive(encoder, units, decoder, **given).double().train()
