"""Mixed precision against torch's own recipe, written out."""

import copy

import pytest
import torch
from mmengine.optim import OptimWrapper

from pretrain.losses import Batch
from pretrain.losses.info_nce import info_nce
from pretrain.model import LocalContrastive
from pretrain.step.precision import MixedPrecision, check_precision
from tests.helpers.slow_formulation import slow_gradients
from tests.helpers.tiny_model import tiny_model

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="a GPU"),
        ],
    ),
]


def make(units="simclr", **options) -> LocalContrastive:
    return tiny_model(units, **options).float()


def sgd(model) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_steps_are_those_of_torchs_recipe(dtype, device):
    """One unit over everything is plain backpropagation, so torch's documented loop is an oracle.

    The loss and all backward passes are outside autocast. In float16 the first steps overflow and
    are left out, until the scale is small enough.
    """
    ours = make().to(device)
    theirs = copy.deepcopy(ours)
    wrapper = MixedPrecision(dtype, optimizer=sgd(ours))
    optimizer = sgd(theirs)
    scaler = torch.amp.GradScaler(device, enabled=dtype == "float16")
    for step in range(9):
        torch.manual_seed(step)
        images = torch.randn(8, 3, 64, 64, device=device)
        losses = ours.train_step({"views": images}, wrapper)
        with torch.autocast(device, dtype=getattr(torch, dtype)):
            embeddings = theirs.decoders[0](theirs.encoder(images)[-1])
        loss = info_nce(embeddings.float(), 0.1)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        torch.testing.assert_close(*losses.values(), loss.detach(), rtol=1e-6, atol=0)
    moved = 0
    start = make().to(device)
    for (name, p), q in zip(theirs.named_parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(q, p, rtol=1e-6, atol=1e-7, msg=name)
        moved += not torch.equal(p, start.get_parameter(name))
    assert moved and scaler.get_scale() < 65536


@pytest.mark.slow
@pytest.mark.parametrize("units", ["gim", "loco"])
@pytest.mark.parametrize("options", [{}, {"recompute": ["res3"]}], ids=str)
def test_local_units_in_bfloat16_are_the_slow_formulation(units, options):
    """The same forward passes, so the same losses; gradients meet in another order of rounding."""
    torch.manual_seed(1)
    images = torch.randn(16, 3, 64, 64)
    ours = make(units, **options)
    slow = copy.deepcopy(ours)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses, expected, decoders = slow_gradients(slow.encoder, slow.units, slow.decoders, images)
    with MixedPrecision("bfloat16", optimizer=sgd(ours)).optim_context(ours):
        found = ours.backward(Batch(images))
    assert found == losses
    for name, parameter in ours.encoder.named_parameters():
        assert parameter.grad.dtype == torch.float32
        error = (parameter.grad - expected[name]).norm() / expected[name].norm()
        assert error < 0.02, name
    for decoder, grads in zip(ours.decoders, decoders, strict=True):
        for parameter, grad in zip(decoder.parameters(), grads, strict=True):
            assert (parameter.grad - grad).norm() <= 0.02 * grad.norm()


def test_the_loss_itself_is_not_rounded():
    torch.manual_seed(2)
    embeddings = torch.randn(16, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = info_nce(embeddings, 0.1)
    assert torch.equal(found, info_nce(embeddings, 0.1))


def test_an_overflow_skips_the_step_and_halves_the_scale():
    model = make()
    wrapper = MixedPrecision("float16", optimizer=sgd(model))
    before = copy.deepcopy(model.state_dict())
    wrapper.scale_loss(torch.ones(()))  # 65536 from here on
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, float("inf"))
    wrapper.step()
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())
    assert float(wrapper.scale_loss(torch.ones(()))) == 65536 / 2


def test_the_scale_survives_a_checkpoint():
    model = make()
    wrapper, resumed = (MixedPrecision("float16", optimizer=sgd(model)) for _ in range(2))
    wrapper.scaler.update(512.0) if wrapper.scale_loss(torch.ones(())) else None
    resumed.load_state_dict(wrapper.state_dict())
    assert float(resumed.scale_loss(torch.ones(()))) == 512


@pytest.mark.slow
def test_the_penalty_between_copies_is_scaled_as_the_gradients_are():
    """With no other gradient a step moves a weight by lr * l2 * (w - w'), at any scale."""
    plain, scaled = (make("loco", sharing={"l2": 1e-2}) for _ in range(2))
    wrappers = OptimWrapper(sgd(plain)), MixedPrecision("float16", optimizer=sgd(scaled))
    for model, wrapper in zip((plain, scaled), wrappers, strict=True):
        with torch.no_grad():
            for number, parameter in enumerate(model.decoders.parameters()):
                parameter.add_(0.01 * number)
        wrapper.scale_loss(torch.ones(()))
        model.update(wrapper)
    moved = 0
    for (name, p), q in zip(plain.named_parameters(), scaled.parameters(), strict=True):
        torch.testing.assert_close(q, p, rtol=1e-6, atol=1e-7, msg=name)
        moved += not torch.equal(p, make("loco", sharing={"l2": 1e-2}).get_parameter(name))
    assert moved


def test_an_unknown_precision_lists_the_known_ones():
    with pytest.raises(ValueError, match="it can be: float32, bfloat16, float16"):
        check_precision("fp8")


def test_the_scaler_is_handed_what_lies_where_the_weights_do():
    """A GPU would copy its scale to a CPU tensor without waiting; a stand-in tells the device."""
    seen = []

    class Wrapper:
        def scale_loss(self, loss):
            seen.append(loss.device.type)
            return torch.ones(())

        def step(self):
            pass

        zero_grad = step

    make("loco", sharing={"l2": 1e-2}).to("meta").update(Wrapper())
    assert seen == ["meta"]
