"""The losses of local units, one file each; a new one subclasses LocalLoss and joins LOSSES."""

from pretrain.losses.contract import LOSSES, Batch, LocalLoss, build_loss
from pretrain.losses.info_nce import InfoNCE

__all__ = ["LOSSES", "Batch", "InfoNCE", "LocalLoss", "build_loss"]
