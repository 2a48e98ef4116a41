"""Recomputation changes what is held, and nothing else."""

import copy

import pytest
import torch
from torch import nn

from pretrain.encoders import build_encoder
from pretrain.losses import Batch
from pretrain.step.recompute import chain_of_blocks
from tests.helpers.tiny_model import tiny_model

TOLERANCE = 1e-12  # relative, float64


@pytest.mark.parametrize("units", ["simclr", "gim", "loco", [(0, 1, 2), (1, 2, 3)]], ids=str)
@pytest.mark.parametrize("recompute", [("res2",), ("res3",), ("res2", "res3", "res4", "res5")])
def test_gradients_and_statistics_are_those_without(units, recompute):
    batch = Batch(torch.randn(6, 3, 64, 64, dtype=torch.float64))
    plain, forgetful = tiny_model(units), tiny_model(units, recompute=recompute)
    for _ in range(2):  # the second step adds to the gradients and statistics of the first
        losses = plain.backward(batch), forgetful.backward(batch)
        torch.testing.assert_close(*losses, rtol=TOLERANCE, atol=0)
    for (name, p), q in zip(plain.named_parameters(), forgetful.parameters(), strict=True):
        assert (p.grad - q.grad).norm() <= TOLERANCE * p.grad.norm(), name
    assert plain.state_dict().keys() == forgetful.state_dict().keys()
    for name, buffer in forgetful.named_buffers():
        torch.testing.assert_close(buffer, plain.get_buffer(name), rtol=TOLERANCE, atol=0, msg=name)
        assert not name.endswith("num_batches_tracked") or buffer == 2, name


@pytest.mark.parametrize("encoder", ["presnet_tiny", "shufflenetv2_tiny"])
def test_every_encoder_can_recompute_all_its_stages(encoder):
    batch = Batch(torch.randn(6, 3, 64, 64, dtype=torch.float64))
    plain = tiny_model("loco", encoder)
    forgetful = tiny_model("loco", encoder, recompute=build_encoder(encoder).stage_names)
    plain.backward(batch), forgetful.backward(batch)
    for (name, p), q in zip(plain.named_parameters(), forgetful.parameters(), strict=True):
        assert (p.grad - q.grad).norm() <= TOLERANCE * p.grad.norm(), name
    for name, buffer in forgetful.named_buffers():
        torch.testing.assert_close(buffer, plain.get_buffer(name), rtol=TOLERANCE, atol=0, msg=name)


def test_cumulative_statistics_are_updated_once_too():
    """A momentum of None averages over ``num_batches_tracked``, which must not run ahead."""
    norms = [nn.BatchNorm2d(3, momentum=None).double() for _ in range(2)]
    encoder = build_encoder("resnet_tiny").double()
    x = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    stages = []
    for norm, recompute in zip(norms, [(), ("res2",)], strict=True):
        twin = copy.deepcopy(encoder)
        twin.conv1 = nn.Sequential(norm, twin.conv1)
        (block, *_) = chain_of_blocks(twin, recompute)
        for _ in range(3):
            y = x
            for module in block:
                y = module(y)
            y.sum().backward()
        stages.append(twin)
    for a, b in zip(stages[0].buffers(), stages[1].buffers(), strict=True):
        assert torch.equal(a, b)


def test_an_unknown_stage_lists_those_that_exist():
    words = r"recompute names 'res9', but the stages of resnet_tiny are res2, res3, res4, res5"
    with pytest.raises(ValueError, match=words):
        tiny_model(recompute=("res2", "res9"))
