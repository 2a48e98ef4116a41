"""Encoders against torchvision's."""

import pytest
import torch
from torchvision.models import resnet50

from pretrain.encoders import ENCODERS, build_encoder
from pretrain.export import weights_sha256


def test_resnet50_is_torchvisions_without_the_fc():
    ours, theirs = build_encoder("resnet50").eval(), resnet50().eval()
    tensors = {k: v for k, v in theirs.state_dict().items() if not k.startswith("fc.")}
    assert list(ours.state_dict()) == list(tensors)
    ours.load_state_dict(tensors)
    images = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        expected = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(images))))
        for found, layer in zip(
            ours(images), (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4), strict=True
        ):
            expected = layer(expected)
            assert torch.equal(found, expected)
    assert (
        sum(p.numel() for p in ours.parameters()) == 25_557_032 - 2_049_000
    )  # fc: 2048 x 1000 + 1000


@pytest.mark.parametrize("name", ENCODERS)
def test_the_contract_holds(name):
    encoder = build_encoder(name).eval()
    side = 70  # not a multiple of the stride
    with torch.no_grad():
        features = encoder(torch.randn(1, 3, side, side))
    assert len(features) == len(encoder.stage_names) == len(encoder.stages())
    for feature, channels, stride in zip(
        features, encoder.out_channels, encoder.strides, strict=True
    ):
        assert feature.shape == (1, channels, -(-side // stride), -(-side // stride))
    in_blocks = {id(p) for b in encoder.blocks() for m in b for p in m.parameters()}
    assert in_blocks == {id(p) for p in encoder.parameters()}, "a parameter outside all blocks"
    assert encoder.name == name


def test_initialisation_follows_the_seed():
    digests = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        digests.append(weights_sha256(build_encoder("resnet_tiny").state_dict()))
    assert digests[0] == digests[1] != digests[2]


def test_an_unknown_encoder_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown encoder 'vgg'; the encoders are: resnet50"):
        build_encoder("vgg")
