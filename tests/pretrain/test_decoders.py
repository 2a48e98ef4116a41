"""The decoders of Table 4."""

import pytest
import torch
from torch import nn

from pretrain.decoders import Decoder
from pretrain.encoders.resnet import ResNet


def parameters(module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_decoders_of_table_4():
    """Convolutional parts counted against the encoder's own stages."""
    torch.manual_seed(0)
    encoder = ResNet(depths=(2, 2, 2, 2), width=8)
    layers = [encoder.layer1, encoder.layer2, encoder.layer3, encoder.layer4]
    features = torch.randn(2, 32, 16, 16)  # of res2
    none, one, flat, two = (
        Decoder(encoder, 2, conv_blocks=n, downsample=d)
        for n, d in ((0, True), (1, True), (1, False), (2, True))
    )
    assert [parameters(d.conv) > 0 for d in (none, one, flat, two)] == [False, True, True, True]
    assert parameters(two.conv) == 2 * parameters(one.conv)
    assert one.conv(features).shape == (2, 32, 8, 8)
    assert flat.conv(features).shape == (2, 32, 16, 16)
    assert two.conv(features).shape == (2, 32, 4, 4)
    for stages, expected in ((1, layers[1:2]), (3, layers[1:4])):
        decoder = Decoder(encoder, 2, further_stages=stages)
        assert parameters(decoder.stages) == sum(parameters(layer) for layer in expected)
        assert not torch.equal(decoder.stages[0].conv1.weight, layers[1][0].conv1.weight)
        assert torch.equal(decoder.stages[0].bn1.weight, torch.ones(16))
        assert decoder(features).shape == (2, 128)
    assert parameters(Decoder(encoder, 8, further_stages=3).stages) == 0  # res5 has none above it
    linear = [m for m in Decoder(encoder, 2, mlp_layers=4).mlp if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == [(32, 32)] * 3 + [(32, 128)]
    with pytest.raises(ValueError, match="mlp_layers >= 1"):
        Decoder(encoder, 2, mlp_layers=0)
