"""Our encoders as mmdetection backbones: the modules that pretraining trained, partly frozen."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pretrain.backbone_file import load_backbone
from pretrain.encoders import build_encoder, run_block
from pretrain.engine.run_folder import DETECTOR
from pretrain.step.norm import FoldedNorm

WHAT_TO_TAKE = (
    f"take {DETECTOR}, which a finished run leaves and which holds all, or name the file in the "
    "config's model.backbone.backbone_file"
)


@MODELS.register_module()
class TransferBackbone(BaseModule):
    """An encoder of :mod:`pretrain.encoders` that gives its stages' features to a neck.

    Frozen stages run without an autograd graph; their parameters take no gradient and their batch
    norms stay in eval mode, whatever ``train()`` says. So norms are folded into convolutions, which
    on a CPU are channels-last, and checkpoints leave out what the backbone file holds: loading one
    without that file is refused.

    Args:
        encoder: a name in :data:`pretrain.encoders.ENCODERS`.
        backbone_file: what pretraining exported, read strictly (see
            :func:`pretrain.backbone_file.load_backbone`); None leaves the random initialisation.
            Where there is no such file, weights that hold all have to be loaded before ``forward``.
        frozen_stages: how many stages are frozen, counted from the input; the stem belongs to the
            first. 4 freezes all of ResNet-50 (section 5.2), 1 its conv1 and res2 (section 5.3).
        out_stages: the stages whose features go out; all of them by default.
        exact: fold no norms and reorder nothing: the features are the encoder's to the last bit.

    Raises:
        ValueError: ``frozen_stages`` or ``out_stages`` names stages that the encoder does not have;
            the file is not this encoder's.
    """

    def __init__(
        self,
        encoder: str,
        backbone_file: str | None = None,
        frozen_stages: int = 0,
        out_stages: Sequence[int] | None = None,
        exact: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = build_encoder(encoder)
        stages = len(self.encoder.stage_names)
        self.out_stages = tuple(range(stages)) if out_stages is None else tuple(out_stages)
        if not 0 <= frozen_stages <= stages or not set(self.out_stages) <= set(range(stages)):
            raise ValueError(
                f"{encoder} has the stages {', '.join(self.encoder.stage_names)}: frozen_stages "
                f"must be 0 to {stages} and out_stages among 0 to {stages - 1}, got "
                f"{frozen_stages} and {self.out_stages}"
            )
        self.frozen_stages = frozen_stages
        self.missing_file: str | None = None
        if backbone_file is None:
            print_log("backbone: random initialisation", logger="current")
        elif not Path(backbone_file).is_file():
            self.missing_file = backbone_file
        else:
            provenance = load_backbone(self.encoder, backbone_file)
            print_log(
                f"backbone: {provenance.method} {provenance.encoder}, {provenance.epochs} epochs "
                f"of {provenance.dataset}, sha256 {provenance.weights_sha256}, all tensors loaded",
                logger="current",
            )
        self.train()
        self.memory_format = torch.contiguous_format
        if not exact:
            fold_norms(self.encoder, self._frozen_modules())
            if not torch.cuda.is_available():
                self.memory_format = torch.channels_last
        for module in self._frozen_modules():
            module.requires_grad_(False)
            module.to(memory_format=self.memory_format)  # type: ignore[call-overload]  # torch's stub
        self.from_file = backbone_file is not None and self.missing_file is None
        if self.from_file:
            self.register_state_dict_post_hook(_leave_out_frozen)
        self.register_load_state_dict_post_hook(_account_for_frozen)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) -> features of the stages in ``out_stages``, each (N, C, H / s, W / s)."""
        if self.missing_file is not None:
            raise FileNotFoundError(f"no backbone file at {self.missing_file}; {WHAT_TO_TAKE}")
        features = []
        x = images.contiguous(memory_format=self.memory_format) if self.frozen_stages else images
        for number, stage in enumerate(self.encoder.stages()):
            for block in stage:
                x = run_block(block, x)
            if number in self.out_stages:
                features.append(x.contiguous())  # mmcv's RoIAlign takes any map for such
        return tuple(features)

    def train(self, mode: bool = True) -> "TransferBackbone":
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        return self

    def frozen_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Parameters and norm statistics of the frozen stages, under their names in the encoder."""
        frozen = {id(module) for part in self._frozen_modules() for module in part.modules()}
        for name, module in self.encoder.named_modules():
            if id(module) in frozen:
                own = [
                    *module.named_parameters(recurse=False),
                    *module.named_buffers(recurse=False),
                ]
                for key, tensor in own:
                    yield f"{name}.{key}", tensor

    def _frozen_modules(self) -> list[nn.Module]:
        stages = self.encoder.stages()[: self.frozen_stages]
        return [module for stage in stages for block in stage for module in block]


def fold_norms(encoder: nn.Module, modules: Sequence[nn.Module]) -> None:
    """Fold every batch norm into the convolution in front; a :class:`FoldedNorm` takes its place.

    A norm that uses its running statistics is one multiplication and one addition for each channel,
    which the convolution can do too. The features stay the same to rounding (1e-6 relative in
    float32). Every encoder of ours defines a norm right after the convolution that feeds it, so
    neighbours in the order of definition belong together.

    Args:
        encoder: holds the modules, some of them, a stem's, directly; changed in place.
        modules: whose norms are folded, in eval mode.

    Raises:
        ValueError: a norm that follows no convolution, or is in training mode.
    """
    chosen = {id(part) for module in modules for part in module.modules()}
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


def _leave_out_frozen(
    backbone: TransferBackbone, state_dict: dict[str, Any], prefix: str, metadata: Any
) -> None:
    for name, _ in backbone.frozen_tensors():
        state_dict.pop(f"{prefix}encoder.{name}", None)


def _account_for_frozen(backbone: TransferBackbone, keys: Any) -> None:
    """What a checkpoint leaves out has to have come from the backbone file.

    Raises:
        ValueError: it has not; mmdetection would go on with random weights and a warning.
    """
    frozen = tuple(f"encoder.{name}" for name, _ in backbone.frozen_tensors())
    absent = [key for key in keys.missing_keys if key.endswith(frozen)]
    if absent and not backbone.from_file:
        where = backbone.missing_file or "its backbone file"
        raise ValueError(
            f"this checkpoint leaves out {len(absent)} frozen tensors of the backbone, which stand "
            f"in {where}, and that was not read; {WHAT_TO_TAKE}"
        )
    keys.missing_keys[:] = [key for key in keys.missing_keys if key not in absent]
    backbone.missing_file = None
