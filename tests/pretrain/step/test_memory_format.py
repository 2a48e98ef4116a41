"""Channels-last changes the order in memory and no number."""

import pytest
import torch

from pretrain.losses import Batch
from tests.helpers.tiny_model import tiny_model


@pytest.mark.parametrize("encoder", ["resnet_tiny", "presnet_tiny"])
@pytest.mark.parametrize("options", [{}, {"recompute": ["res2"]}, {"micro_batch_size": 2}], ids=str)
def test_gradients_are_the_same_and_maps_keep_the_order(encoder, options):
    batch = Batch(torch.randn(6, 3, 64, 64, dtype=torch.float64))
    usual, last = (
        tiny_model("loco", encoder, channels_last=order, **options) for order in (False, True)
    )
    seen = []
    for block in last.encoder.blocks():
        block[-1].register_forward_hook(
            lambda _, inputs, output: seen.append(
                output.is_contiguous(memory_format=torch.channels_last)
            )
        )
    usual.backward(batch)
    last.backward(batch)
    assert seen and all(seen)
    for (name, p), q in zip(usual.named_parameters(), last.parameters(), strict=True):
        assert (p.grad - q.grad).norm() <= 1e-10 * p.grad.norm(), name
    assert last.encoder.conv1.weight.is_contiguous(memory_format=torch.channels_last)


def test_an_encoder_that_falls_back_says_so():
    words = "channels_last cannot be honoured: blocks of shufflenetv2_tiny in res2, res3, res4"
    with pytest.raises(ValueError, match=words):
        tiny_model("loco", "shufflenetv2_tiny", channels_last=True)
