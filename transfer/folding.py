"""Batch norms of frozen stages, folded into the convolutions in front of them.

A norm that uses its running statistics is one multiplication and one addition for each channel; the
convolution can do both. The features stay the same to rounding (1e-6 relative in float32).
"""

from collections.abc import Sequence

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pretrain.encoders import Block
from pretrain.step.norm import FoldedNorm


def fold_norms(encoder: nn.Module, blocks: Sequence[Block]) -> None:
    """Fold every norm of ``blocks``, in place; a :class:`FoldedNorm` takes its place.

    Every encoder of ours defines a norm right after the convolution that feeds it, so neighbours in
    the order of definition belong together.

    Args:
        encoder: holds the blocks' modules, some of them, a stem's, directly.
        blocks: part of ``encoder.blocks()``, in eval mode.

    Raises:
        ValueError: a norm that follows no convolution.
    """
    chosen = {id(module) for block in blocks for part in block for module in part.modules()}
    for parent in encoder.modules():
        before: tuple[str, nn.Module] = ("", nn.Identity())
        for name, module in list(parent.named_children()):
            if isinstance(module, nn.BatchNorm2d) and id(module) in chosen:
                if not isinstance(before[1], nn.Conv2d) or module.training:
                    raise ValueError(
                        f"norm {name} of {type(parent).__name__} cannot be folded: it is in "
                        f"training mode or follows {type(before[1]).__name__}, not a convolution; "
                        "set model.backbone.exact=True"
                    )
                setattr(parent, before[0], fuse_conv_bn_eval(before[1], module))
                setattr(parent, name, FoldedNorm())
            before = (name, module)
