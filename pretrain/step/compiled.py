"""Stages whose residual blocks ``torch.compile`` turns into fused kernels."""

from collections.abc import Sequence

import torch
from mmengine.logging import print_log

from pretrain.encoders import Encoder
from pretrain.units import Unit


def compile_stages(encoder: Encoder, names: Sequence[str], units: Sequence[Unit]) -> None:
    """Have the blocks of the named stages compiled, in place, when they first run.

    Blocks of equal shape share their code. A compiled backward pass knows no half measures: where
    units share a stage, the passes that the streamed backward needs for the gradient of the input
    alone compute those of the parameters too, and drop them. The results are the same; the log
    tells which stages lose time so.

    Raises:
        ValueError: the encoder has no stage of that name.
    """
    encoder.check_stages(names, "compile")
    if not names:
        return
    torch._dynamo.config.recompile_limit = 64  # ResNet-50 has 8 shapes of blocks in one forward()
    torch._functorch.config.donated_buffer = False  # a shared stage goes backward twice
    start = 0
    for name, stage in zip(encoder.stage_names, encoder.stages(), strict=True):
        stop = start + len(stage)
        if name in names:
            for module in (module for block in stage for module in block):
                if next(module.children(), None) is not None:  # of a stem's single layers: nothing
                    module.compile(dynamic=False)
            shared = sum(unit.start < stop and start < unit.stop for unit in units)
            if shared > 1:
                print_log(
                    f"compile: {name} belongs to {shared} units; compiled, its input gradients "
                    "cost a whole backward pass each",
                    logger="current",
                )
        start = stop
