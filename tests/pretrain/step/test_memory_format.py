"""Channels-last changes the order in memory and no number."""

import pytest
import torch

from pretrain.model import LocalContrastive


def make(encoder, **options) -> LocalContrastive:
    torch.manual_seed(0)
    return LocalContrastive(
        encoder, "loco", {"conv_blocks": 1, "out_dim": 16}, 0.1,
        {"type": "BaseDataPreprocessor"}, **options,
    ).double().train()  # fmt: skip


@pytest.mark.parametrize("encoder", ["resnet_tiny", "presnet_tiny"])
@pytest.mark.parametrize("options", [{}, {"recompute": ["res2"]}, {"micro_batch_size": 2}], ids=str)
def test_gradients_are_the_same_and_maps_keep_the_order(encoder, options):
    images = torch.randn(6, 3, 64, 64, dtype=torch.float64)
    usual, last = make(encoder, **options), make(encoder, channels_last=True, **options)
    seen = []
    for block in last.encoder.blocks():
        block[-1].register_forward_hook(
            lambda _, inputs, output: seen.append(
                output.is_contiguous(memory_format=torch.channels_last)
            )
        )
    usual.backward(images)
    last.backward(images)
    assert seen and all(seen)
    for (name, p), q in zip(usual.named_parameters(), last.parameters(), strict=True):
        assert (p.grad - q.grad).norm() <= 1e-10 * p.grad.norm(), name
    assert last.encoder.conv1.weight.is_contiguous(memory_format=torch.channels_last)


def test_an_encoder_that_falls_back_says_so():
    words = "channels_last cannot be honoured: blocks of shufflenetv2_tiny in res2, res3, res4"
    with pytest.raises(ValueError, match=words):
        make("shufflenetv2_tiny", channels_last=True)
