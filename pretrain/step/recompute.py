"""Recomputation: a stage that forgets its activations and runs forward again when they are needed.

Chen et al., 2016 (the paper's [12]). Each residual block is a checkpoint of its own, so that at any
time the activations of one block of the stage are alive, besides the inputs of the others. Where
two units share the stage, its blocks run again for both of the passes through it: keeping the first
pass's activations for the second would bring back the very memory that recomputation saves.
"""

from collections.abc import Sequence
from itertools import count

from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from pretrain.encoders import Block, Encoder


def chain_of_blocks(encoder: Encoder, recompute: Sequence[str] = ()) -> list[Block]:
    """All blocks of the encoder in order, those of the stages named in ``recompute`` forgetful.

    Raises:
        ValueError: the encoder has no stage of that name.
    """
    encoder.check_stages(recompute, "recompute")
    return [
        _forgetful(block) if name in recompute else block
        for name, stage in zip(encoder.stage_names, encoder.stages(), strict=True)
        for block in stage
    ]


def _forgetful(block: Block) -> Block:
    """What stands before the last module (a stem, a downsampling) is a checkpoint by itself.

    A stem's maps are the largest of all: run again together with the residual block behind it, the
    two would be alive at the same time.
    """
    return tuple(Recomputed(piece) for piece in (block[:-1], block[-1:]) if piece)


class Recomputed(nn.Module):
    """A block that keeps its input only; its gradients are those of the block itself.

    Running statistics are updated by the first run alone: every further one gets copies of the
    block's buffers and throws them away. Every run draws the random numbers of the first, so that
    dropout drops the same.

    Args:
        block: modules that run one after the other; they stay the encoder's own.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = nn.Sequential(*block)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output, of the block's own shape."""
        runs = count()

        def run(x: Tensor) -> Tensor:
            again = next(runs) > 0
            buffers = dict(self.block.named_buffers()) if again else {}
            copies = {name: buffer.clone() for name, buffer in buffers.items()}
            return functional_call(self.block, copies, (x,))

        return checkpoint(run, x, use_reentrant=False)
