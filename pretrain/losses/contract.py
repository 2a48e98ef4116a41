"""What a unit's loss is given, and what it may keep."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from mmengine.registry import Registry
from torch import Tensor, nn

LOSSES = Registry("loss of a local unit")
"""Subclasses of :class:`LocalLoss`, by the name that a config's ``loss=dict(type=...)`` has."""


@dataclass(frozen=True)
class Batch:
    """What a loss may know of the images of one step, on this process.

    Attributes:
        images: (2N, 3, H, W), normalised: N images' first views, then their second views in the
            same order.
        image_id: (2N,), place of each view's image in the dataset; None where nobody knows.
        label: (2N,), class of each view's image; None where the dataset gives none.
    """

    images: Tensor
    image_id: Tensor | None = None
    label: Tensor | None = None

    @property
    def other_view(self) -> Tensor:
        """(2N,): for each row, the row that holds the other view of the same image."""
        rows = len(self.images)
        return (torch.arange(rows, device=self.images.device) + rows // 2) % rows


class LocalLoss(nn.Module):
    """The loss of one unit. It is called with ``(embeddings, batch)`` once a step.

    A subclass gives ``forward``; parameters of its own are trained with the unit's, and its buffers
    are saved with the model. With several processes each computes the loss of its own part of the
    batch; the gradients, those of the loss's parameters too, are averaged over the processes.

    Attributes:
        process_group: for collectives; None means all processes.
    """

    process_group: dist.ProcessGroup | None = None

    def start(self, network: nn.Sequential) -> None:
        """Called once, before training. A loss with a target network copies ``network`` here.

        Args:
            network: from images to this unit's embeddings: the encoder up to the unit's end, then
                its decoder. It belongs to the model: to keep it as an attribute would register its
                parameters a second time.
        """

    def forward(self, embeddings: Tensor, batch: Batch) -> Tensor:
        """The loss.

        Args:
            embeddings: (2N, D), the decoder's output for ``batch.images``, not normalised.
            batch: see :class:`Batch`.

        Returns:
            A scalar: the mean over this process's part of the batch.
        """
        raise NotImplementedError

    def after_update(self, network: nn.Sequential) -> None:
        """Called after every update of the weights, to let a target network follow.

        Args:
            network: as in :meth:`start`, with the new weights.
        """


def build_loss(config: Mapping[str, Any]) -> LocalLoss:
    """A loss from its config, such as ``dict(type="InfoNCE", temperature=0.1)``.

    Raises:
        ValueError: no loss of that name; the known ones are listed.
    """
    arguments = dict(config)
    name = arguments.pop("type", None)
    if name not in LOSSES.module_dict:
        known = ", ".join(sorted(LOSSES.module_dict))
        raise ValueError(f"unknown loss {name!r}; the losses are: {known}")
    loss = LOSSES.module_dict[name](**arguments)
    assert isinstance(loss, LocalLoss), f"{name} is no LocalLoss"
    return loss
