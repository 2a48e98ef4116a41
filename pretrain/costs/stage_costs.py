"""What every stage of an encoder costs (Table 6): by arithmetic, and as a forward pass shows."""

from dataclasses import dataclass

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from pretrain.costs.flops import MultiplyAdds
from pretrain.costs.peak_memory import PeakMemory
from pretrain.encoders import build_encoder, run_block


@dataclass(frozen=True)
class StageCost:
    """Costs of one stage.

    Attributes:
        name: of the stage.
        elements: that the convolutions on the main branches of its residual blocks put out for one
            image, every map taken to be as large as the stage's output. Table 6's memory column is
            this. Stem and shortcuts are left out; so is that torchvision's first 1x1 of a stage
            still sees the larger map of the stage below.
        macs: multiply-adds of all its convolutions for one image. res2 has the stem's, as in
            Table 6's FLOPs column.
        saved_bytes: of activations that are alive after its forward pass over the batch and were
            not before it, its output included.
    """

    name: str
    elements: int
    macs: int
    saved_bytes: int


def stage_costs(encoder_name: str, batch_size: int, image_size: int) -> list[StageCost]:
    """Count every stage of an encoder, without allocating.

    Args:
        encoder_name: a name in :data:`pretrain.encoders.ENCODERS`.
        batch_size: images in ``saved_bytes``; the other counts are for one image.
        image_size: height and width, in pixels.

    Raises:
        ValueError: no encoder has that name.
    """
    costs = []
    with FakeTensorMode(), PeakMemory() as memory, MultiplyAdds() as work:
        encoder = build_encoder(encoder_name).train()
        x = torch.empty(batch_size, 3, image_size, image_size)
        stages = zip(encoder.stage_names, encoder.stages(), encoder.out_channels, strict=True)
        for name, stage, channels in stages:
            bytes_before, macs_before = memory.alive_bytes, work.macs
            for block in stage:
                x = run_block(block, x)
            layers = [layer for block in stage for layer in encoder.counted_layers(block)]
            positions = x[0].numel() // channels
            costs.append(
                StageCost(
                    name,
                    elements=positions * sum(len(layer.weight) for layer in layers),
                    macs=(work.macs - macs_before) // batch_size,
                    saved_bytes=memory.alive_bytes - bytes_before,
                )
            )
    return costs
