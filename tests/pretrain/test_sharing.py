"""Table 5's ways of sharing, against slow formulations."""

import copy

import pytest
import torch
from mmengine.optim import OptimWrapper

from pretrain.encoders import run_block
from pretrain.losses.info_nce import info_nce
from pretrain.model import LocalContrastive
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
