"""Folded norms: the same features, fewer passes; and a checkpoint without what is frozen."""

import copy

import pytest
import torch
from torch import nn

from pretrain.encoders import ENCODERS, build_encoder
from transfer.backbones import TransferBackbone, fold_norms


def lively(encoder: nn.Module) -> nn.Module:
    """Norm statistics and parameters that a fold could get wrong."""
    torch.manual_seed(0)
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return encoder.eval()


@pytest.mark.parametrize("name", [name for name in ENCODERS if name.endswith("tiny")])
def test_the_features_stay(name):
    encoder = lively(build_encoder(name)).double()
    images = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        expected = encoder(images)
        fold_norms(encoder, [encoder])
        found = encoder(images)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in encoder.modules())
    for a, b in zip(found, expected, strict=True):
        assert (a - b).norm() <= 1e-12 * b.norm()


@pytest.mark.parametrize("name", ["resnet50", "shufflenetv2_50", "presnet50"])
def test_the_backbone_of_a_detector_agrees_with_the_encoder(name):
    stages = len(build_encoder(name).stage_names)
    torch.manual_seed(1)
    backbone = TransferBackbone(name, frozen_stages=stages)
    torch.manual_seed(1)
    exact = TransferBackbone(name, frozen_stages=stages, exact=True)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules())
    images = torch.randn(1, 3, 112, 112)
    for a, b in zip(backbone(images), exact(images), strict=True):
        assert a.is_contiguous()
        assert (a - b).norm() <= 1e-5 * b.norm()


def test_only_frozen_stages_are_folded():
    torch.manual_seed(0)
    backbone = TransferBackbone("resnet_tiny", frozen_stages=2)
    norms = {n for n, m in backbone.encoder.named_modules() if isinstance(m, nn.BatchNorm2d)}
    every = {
        n for n, m in build_encoder("resnet_tiny").named_modules() if isinstance(m, nn.BatchNorm2d)
    }
    assert norms == {name for name in every if name.startswith(("layer3", "layer4"))}
    trainable = {n for n, p in backbone.encoder.named_parameters() if p.requires_grad}
    assert trainable and all(name.startswith(("layer3", "layer4")) for name in trainable)


def test_a_norm_in_training_mode_is_refused():
    encoder = build_encoder("resnet_tiny").train()
    with pytest.raises(ValueError, match=r"norm bn1 of ResNet cannot be folded.*exact=True"):
        fold_norms(encoder, [encoder])


def test_a_checkpoint_holds_what_is_trained_and_loads_strictly(backbone_file):
    backbone = TransferBackbone("resnet_tiny", str(backbone_file), frozen_stages=3)
    state = copy.deepcopy(backbone.state_dict())
    assert state and all(name.startswith("encoder.layer4.") for name in state)
    detector = nn.ModuleDict({"backbone": backbone, "neck": nn.Linear(2, 2)})
    whole = detector.state_dict()
    assert {name for name in whole if name.startswith("backbone")} == {
        f"backbone.{n}" for n in state
    }
    detector.load_state_dict(whole)
    for name in ("backbone.encoder.layer4.0.conv1.weight", "neck.weight"):
        with pytest.raises(RuntimeError, match=f"Missing key.*{name}"):
            detector.load_state_dict({k: v for k, v in whole.items() if k != name})


def test_a_random_backbone_is_in_the_checkpoint():
    backbone = TransferBackbone("resnet_tiny", frozen_stages=4)
    assert {"encoder.conv1.weight", "encoder.conv1.bias"} <= set(backbone.state_dict())
    other = TransferBackbone("resnet_tiny", frozen_stages=4)
    other.load_state_dict(backbone.state_dict())
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(backbone(images)[-1], other(images)[-1])
