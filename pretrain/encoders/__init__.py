"""The encoders, by name. A new one is a subclass of :class:`Encoder` and a line in ``ENCODERS``."""

from collections.abc import Callable
from functools import partial

from pretrain.encoders.contract import (
    Block,
    ConvolutionalEncoder,
    Encoder,
    block_parameters,
    run_block,
)
from pretrain.encoders.presnet import PResNet
from pretrain.encoders.resnet import ResNet
from pretrain.encoders.shufflenet import ShuffleNetV2

__all__ = [
    "ENCODERS",
    "Block",
    "ConvolutionalEncoder",
    "Encoder",
    "block_parameters",
    "build_encoder",
    "run_block",
]

ENCODERS: dict[str, Callable[[], Encoder]] = {
    "resnet50": partial(ResNet, "resnet50"),
    "shufflenetv2_50": partial(ShuffleNetV2, "shufflenetv2_50"),
    "presnet50": partial(PResNet, "presnet50"),
    "resnet50_small_images": partial(ResNet, "resnet50_small_images", small_images=True),
    # For the demo and the tests: the same code, one block a stage, a quarter of the width or less.
    "resnet_tiny": partial(ResNet, "resnet_tiny", depths=(1, 1, 1, 1), width=16),
    "resnet_tiny_small_images": partial(
        ResNet, "resnet_tiny_small_images", depths=(1, 1, 1, 1), width=16, small_images=True
    ),
    "shufflenetv2_tiny": partial(
        ShuffleNetV2,
        "shufflenetv2_tiny",
        depths=(1, 1, 1, 1),
        stem_channels=8,
        width=16,
        last_channels=128,
    ),
    "presnet_tiny": partial(
        PResNet,
        "presnet_tiny",
        depth=1,
        stem_channels=8,
        base_channels=(8, 16, 8, 16, 32, 32),
        groups=(1, 1, 1, 2, 4, 8),
    ),
}


def build_encoder(name: str) -> Encoder:
    """A freshly initialised encoder.

    Raises:
        ValueError: no encoder has that name, the known ones are listed; or it does not keep
            :class:`Encoder`'s promises about its own name and stages.
    """
    if name not in ENCODERS:
        raise ValueError(f"unknown encoder {name!r}; the encoders are: {', '.join(ENCODERS)}")
    encoder = ENCODERS[name]()
    found = getattr(encoder, "name", None)
    if found != name:  # a backbone file names its encoder, and is read by that name
        raise ValueError(
            f"the encoder under {name!r} in ENCODERS calls itself {found!r}; set its name to "
            f"{name!r}"
        )
    stages = len(encoder.stages())
    convolutional = isinstance(encoder, ConvolutionalEncoder)
    if hasattr(encoder, "strides") and not convolutional:
        raise ValueError(
            f"the encoder {name!r} has strides, but is no ConvolutionalEncoder; make it one, or "
            "leave them out"
        )
    for attribute in ("stage_names", "out_channels", *(["strides"] if convolutional else [])):
        if len(values := getattr(encoder, attribute, ())) != stages:
            raise ValueError(
                f"the encoder {name!r} has {stages} stages, but its {attribute} are {values}; "
                "give one for each stage"
            )
    return encoder
