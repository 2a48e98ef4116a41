"""Table 5's ways of sharing and Table 4's decoders, against slow formulations."""

import copy

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn

from pretrain.decoders import Decoder
from pretrain.encoders import build_encoder, run_block
from pretrain.encoders.resnet import ResNet
from pretrain.losses.info_nce import info_nce
from pretrain.model import LocalContrastive
from pretrain.units import build_units
from tests.helpers.tiny_model import TWO_VIEWS, tiny_model

VIEWS = torch.randint(
    0, 256, (3, 2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)


def make_model(units="loco", sharing=None, **decoder) -> LocalContrastive:
    return tiny_model(units, data_preprocessor=TWO_VIEWS, sharing=sharing, decoder=decoder)


def gradients(model) -> dict[str, torch.Tensor]:
    """Of every parameter, after ``local_gradients``."""
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    model.train().local_gradients({"views": VIEWS}, wrapper)
    return {name: p.grad for name, p in model.named_parameters()}


def one_unit(model, unit, stages, decoder) -> dict[str, torch.Tensor]:
    """Gradients of one unit's loss alone: ``stages`` run on what an intact copy gives them."""
    below, alone, head = (copy.deepcopy(m) for m in (model.encoder, model.encoder, decoder))
    x = model.data_preprocessor({"views": VIEWS})["views"]
    with torch.no_grad():
        for block in below.train().blocks()[: stages[0]]:
            x = run_block(block, x)
    for block in alone.train().blocks()[stages[0] : stages[-1] + 1]:
        x = run_block(block, x)
    info_nce(head.train()(x), 0.1).backward()
    found = {f"encoder.{n}": p.grad for n, p in alone.named_parameters() if p.grad is not None}
    return found | {f"decoders.{unit}.{n}": p.grad for n, p in head.named_parameters()}


def close(found, expected):
    assert found.keys() == expected.keys()
    for name, grad in expected.items():
        assert (found[name] - grad).norm() <= 1e-10 * grad.norm(), name


def test_upper_layer_gradient_only():
    model = make_model(sharing={"upper_gradient_only": True})
    expected: dict[str, torch.Tensor] = {}
    for unit in range(3):  # later, higher units overwrite what they share
        expected |= one_unit(model, unit, (unit, unit + 1), model.decoders[unit])
    close(gradients(model), expected)


def test_untied_copies():
    """Lower units run copies of their upper stage: no encoder stage sees two losses."""
    model = make_model(sharing={"l2": 0.0})
    assert [(u.name, u.start, u.stop) for u in model.units] == [
        ("res2+res3", 0, 1), ("res3+res4", 1, 2), ("res4+res5", 2, 4)
    ]  # fmt: skip
    for front, layer in ((0, model.encoder.layer2), (1, model.encoder.layer3)):
        pairs = zip(model.decoders[front].front.parameters(), layer.parameters(), strict=True)
        assert all(torch.equal(p, q) and p is not q for p, q in pairs)
    expected: dict[str, torch.Tensor] = {}
    for unit, stages in enumerate([(0,), (1,), (2, 3)]):
        expected |= one_unit(model, unit, stages, model.decoders[unit])
    close(gradients(model), expected)


def test_the_penalty_is_the_gradient_of_half_the_squared_distance():
    l2, lr = 0.3, 0.5
    model = make_model(sharing={"l2": l2})
    with torch.no_grad():
        for parameter in model.decoders[1].front.parameters():
            parameter.add_(torch.randn_like(parameter))
    twin = copy.deepcopy(model)
    plain = gradients(twin)
    for parameter in twin.parameters():
        parameter.grad = None
    pairs = [
        *zip(twin.encoder.layer2.parameters(), twin.decoders[0].front.parameters(), strict=True),
        *zip(twin.encoder.layer3.parameters(), twin.decoders[1].front.parameters(), strict=True),
    ]
    (l2 / 2 * sum(((w - v) ** 2).sum() for w, v in pairs)).backward()
    before = {name: p.clone() for name, p in model.named_parameters()}
    model.train().train_step(
        {"views": VIEWS}, OptimWrapper(torch.optim.SGD(model.parameters(), lr=lr))
    )
    for (name, moved), pull in zip(model.named_parameters(), twin.parameters(), strict=True):
        grad = plain[name] + (0 if pull.grad is None else pull.grad)
        torch.testing.assert_close(moved, before[name] - lr * grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("sharing", "words"),
    [({"l2": -1.0}, "l2 is -1.0"), ({"l2": 0.1, "upper_gradient_only": True}, "set one of them")],
)
def test_impossible_sharing_is_refused(sharing, words):
    with pytest.raises(ValueError, match=words):
        make_model(sharing=sharing)


@pytest.mark.parametrize(
    ("layout", "names"),
    [
        ("loco", ["res2+res3", "res3+res4", "res4+res5"]),
        ("loco_res2", ["res2", "res2+res3", "res3+res4", "res4+res5"]),
        ("loco_1_block", ["res2+res3[:1]", "res3+res4[:1]", "res4+res5[:1]", "res5"]),
        ("loco_2_blocks", ["res2+res3[:2]", "res3+res4[:2]", "res4+res5[:2]", "res5"]),
    ],
)
def test_layouts_of_resnet50(layout, names):
    assert [unit.name for unit in build_units(layout, build_encoder("resnet50"))] == names


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
