"""The encoders, by name. A new one is a subclass of :class:`Encoder` and a line in ``ENCODERS``."""

from collections.abc import Callable
from functools import partial

from pretrain.encoders.contract import Block, Encoder, block_parameters, run_block
from pretrain.encoders.resnet import ResNet

__all__ = ["ENCODERS", "Block", "Encoder", "block_parameters", "build_encoder", "run_block"]

ENCODERS: dict[str, Callable[[], Encoder]] = {
    "resnet50": partial(ResNet, "resnet50"),
    # For the demo and the tests: the same code, one block a stage, a quarter of the width.
    "resnet_tiny": partial(ResNet, "resnet_tiny", depths=(1, 1, 1, 1), width=16),
}


def build_encoder(name: str) -> Encoder:
    """A freshly initialised encoder.

    Raises:
        ValueError: no encoder has that name; the known ones are listed.
    """
    if name not in ENCODERS:
        raise ValueError(f"unknown encoder {name!r}; the encoders are: {', '.join(ENCODERS)}")
    return ENCODERS[name]()
