"""Fused bottlenecks: what the plain ones compute, and nobody else's map written over."""

import pytest
import torch
from torch import nn
from torchvision.models.resnet import Bottleneck

from pretrain.encoders import build_encoder
from tests.transfer.test_folding import lively
from transfer.backbones import TransferBackbone
from transfer.folding import fold_norms
from transfer.fusing import FusedBottleneck, can_fuse, fuse_bottlenecks

pytestmark = pytest.mark.skipif(not can_fuse(), reason="a PyTorch with oneDNN")


def folded(name: str) -> nn.Module:
    encoder = lively(build_encoder(name))
    fold_norms(encoder, encoder.blocks())
    return encoder.requires_grad_(False)


def bottlenecks(module: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(part, kind) for part in module.modules())


@pytest.mark.parametrize(
    ("name", "count"), [("resnet_tiny", 4), ("resnet50", 16), ("presnet50", 12)]
)
def test_fused_bottlenecks_give_the_same_features(name, count):
    encoder = folded(name)
    images = torch.randn(2, 3, 64, 96)
    expected = encoder(images)
    tensors = {key: value.clone() for key, value in encoder.state_dict().items()}
    fuse_bottlenecks(encoder, encoder.stages())
    assert bottlenecks(encoder, FusedBottleneck) == count
    assert bottlenecks(encoder, Bottleneck) == 0
    for layout in (torch.contiguous_format, torch.channels_last):
        found = encoder.to(memory_format=layout)(images.contiguous(memory_format=layout))
        for a, b in zip(found, expected, strict=True):
            assert (a - b).norm() <= 1e-5 * b.norm()
    after = encoder.state_dict()
    assert after.keys() == tensors.keys()
    assert all(torch.equal(after[key], tensors[key]) for key in tensors)


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_input_is_written_over_only_where_that_is_allowed(overwrite):
    plain = folded("resnet50").layer1[1]
    block = FusedBottleneck(plain, overwrite)
    x = torch.rand(1, 256, 8, 8)
    before, expected = x.clone(), plain(x.clone())
    assert torch.allclose(block(x), expected, atol=1e-5)
    assert torch.equal(x, before) is not overwrite


def test_the_first_block_of_a_stage_keeps_its_input_and_trained_stages_stay_as_they_are():
    backbone = TransferBackbone("resnet50", frozen_stages=2)
    for number, stage in enumerate(backbone.encoder.stages()):
        for position, block in enumerate(stage):
            if number >= 2:
                assert isinstance(block[-1], Bottleneck)
            else:
                assert block[-1].overwrite is (position > 0)
