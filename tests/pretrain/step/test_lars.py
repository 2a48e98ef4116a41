"""LARS against numbers worked by hand from the reference's formula."""

import pytest
import torch
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from pretrain.step.lars import LARS


def test_two_steps_by_hand():
    weight = nn.Parameter(torch.tensor([[3.0, 4.0]], dtype=torch.float64))  # norm 5
    optimizer = LARS([weight], lr=2.0, momentum=0.9, weight_decay=0.1, eta=0.01)
    weight.grad = torch.tensor([[0.5, -1.2]], dtype=torch.float64)
    optimizer.step()
    # g + wd w = (0.8, -0.8), norm 0.8 sqrt 2; ratio = 0.01 * 5 / that; v = 2 * ratio * (0.8, -0.8)
    v = 2.0 * 0.05 / (0.8 * 2**0.5) * 0.8
    assert weight.tolist()[0] == pytest.approx([3.0 - v, 4.0 + v], rel=1e-14)

    before = weight.detach().clone()
    weight.grad = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    optimizer.param_groups[0]["lr"] = 1.0  # the lr of a step stays in the buffer
    optimizer.step()
    g = [1.0 + 0.1 * float(before[0, 0]), 0.1 * float(before[0, 1])]
    norm = (float(before[0, 0]) ** 2 + float(before[0, 1]) ** 2) ** 0.5
    ratio = 0.01 * norm / (g[0] ** 2 + g[1] ** 2) ** 0.5
    buffer = [0.9 * v + ratio * g[0], -0.9 * v + ratio * g[1]]
    expected = [float(before[0, 0]) - buffer[0], float(before[0, 1]) - buffer[1]]
    assert weight.tolist()[0] == pytest.approx(expected, rel=1e-14)


def test_without_adaptation_it_is_momentum_sgd():
    torch.manual_seed(0)
    ours, theirs = (nn.Parameter(torch.ones(5, dtype=torch.float64)) for _ in range(2))
    lars = LARS([{"params": [ours], "adapt": False}], lr=0.1, momentum=0.9)
    sgd = torch.optim.SGD([theirs], lr=0.1, momentum=0.9)
    for _ in range(3):
        ours.grad = torch.randn(5, dtype=torch.float64)
        theirs.grad = ours.grad.clone()
        lars.step(), sgd.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-14, atol=0)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_a_zero_norm_leaves_the_ratio_at_one(weight):
    parameter = nn.Parameter(torch.full((2, 2), weight))
    parameter.grad = torch.full((2, 2), 1.0 - weight)
    LARS([parameter], lr=0.5, eta=0.001).step()
    assert parameter.flatten().tolist() == [weight - 0.5 * (1.0 - weight)] * 4


def test_bias_and_norm_are_excluded():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    config = {"optimizer": {"type": "LARS", "lr": 1.0, "weight_decay": 1e-6}}
    build = OPTIM_WRAPPER_CONSTRUCTORS.get("ExcludeBiasAndNorm")(config)
    weights, others = build(model).optimizer.param_groups
    assert [id(p) for p in weights["params"]] == [id(model[0].weight)]
    assert weights["weight_decay"] == 1e-6 and weights["adapt"]
    assert {id(p) for p in others["params"]} == {
        id(model[0].bias),
        id(model[1].weight),
        id(model[1].bias),
    }
    assert others["weight_decay"] == 0 and not others["adapt"]
