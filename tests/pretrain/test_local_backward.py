"""The streamed backward against the slow formulation: stages copied, inputs detached."""

import copy

import pytest
import torch
from torch import nn

from pretrain.decoders import Decoder
from pretrain.encoders import Encoder, build_encoder
from pretrain.encoders.resnet import ResNet
from pretrain.local_backward import cut_into_segments, streamed_backward
from pretrain.units import Unit, build_units, check_units
from tests.helpers.slow_formulation import loss, slow_gradients

TOLERANCE = 1e-10  # relative, float64
LAYOUTS = [
    "simclr", "gim", "loco", "loco_1_block", "loco_2_blocks", "loco_res2", "blocks",
    [(0, 1, 2), (2, 3)], [(0, 1), (2, 3)], [(0, 1, 2), (1, 2, 3)],
]  # fmt: skip


def make(layout) -> tuple[Encoder, tuple[Unit, ...], nn.ModuleList, torch.Tensor]:
    torch.manual_seed(0)
    deep = layout in ("blocks", "loco_1_block", "loco_2_blocks")
    encoder = ResNet(depths=(2, 3, 2, 2), width=4) if deep else build_encoder("resnet_tiny")
    encoder = encoder.double().train()
    if layout == "blocks":
        # Block 3 belongs to three units, and the last of them begins below blocks 4 and 5.
        units: tuple[Unit, ...] = (Unit("a", 0, 4), Unit("b", 2, 6), Unit("c", 3, 9))
        check_units(units, 9)
    else:
        units = build_units(layout, encoder)
    decoders = nn.ModuleList(
        Decoder(encoder, unit.stop, conv_blocks=1, out_dim=16) for unit in units
    ).double()
    return encoder, units, decoders, torch.randn(6, 3, 64, 64, dtype=torch.float64)


def step(encoder, units, decoders, images, *on_ready):
    segments = cut_into_segments(encoder.blocks(), units)
    return streamed_backward(images, segments, list(decoders), [loss] * len(units), *on_ready)


GPU = pytest.param(
    "cuda",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="a GPU"),
    ],
)


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_gradients_equal_the_slow_formulation(layout, device):
    encoder, units, decoders, images = make(layout)
    encoder, decoders, images = (x.to(device) for x in (encoder, decoders, images))
    losses, expected, decoder_expected = slow_gradients(encoder, units, decoders, images)
    statistics = copy.deepcopy(encoder)
    statistics(images)

    found = step(encoder, units, decoders, images)

    torch.testing.assert_close(found, losses, rtol=TOLERANCE, atol=0)
    for name, parameter in encoder.named_parameters():
        error = (parameter.grad - expected[name]).norm() / expected[name].norm()
        assert error < TOLERANCE, name
    for decoder, grads in zip(decoders, decoder_expected, strict=True):
        for parameter, grad in zip(decoder.parameters(), grads, strict=True):
            torch.testing.assert_close(parameter.grad, grad, rtol=TOLERANCE, atol=1e-14)
    for name, buffer in encoder.named_buffers():
        assert torch.equal(buffer, statistics.get_buffer(name)), f"{name} updated other than once"


def test_simclr_is_plain_backpropagation():
    encoder, units, decoders, images = make("simclr")
    twin = copy.deepcopy(encoder)
    loss(copy.deepcopy(decoders[0])(twin(images)[-1])).backward()
    step(encoder, units, decoders, images)
    for (name, p), q in zip(encoder.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=TOLERANCE, atol=1e-14, msg=name)


@pytest.mark.parametrize("layout", ["simclr", "gim", "loco"])
def test_every_block_runs_forward_once(layout):
    encoder, units, decoders, images = make(layout)
    calls = []
    for number, block in enumerate(encoder.blocks()):
        block[-1].register_forward_hook(lambda *_, number=number: calls.append(number))
    step(encoder, units, decoders, images)
    assert calls == [0, 1, 2, 3]


def test_activations_go_as_soon_as_their_units_are_done():
    """When stage k + 1 of LoCo starts, nothing below stage k may still be held."""
    encoder, units, decoders, images = make("loco")
    alive: dict[int, set[int]] = {}
    held: set[int] = set()

    class Probe(torch.autograd.Function):  # a saved tensor's life, seen from inside the graph
        @staticmethod
        def forward(ctx, x, stage):
            ctx.token = _Token(stage)
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return grad, None

    class _Token:
        def __init__(self, stage):
            self.stage = stage
            held.add(stage)

        def __del__(self):
            held.discard(self.stage)

    for stage, block in enumerate(encoder.blocks()):
        block[0].register_forward_pre_hook(
            lambda *_, stage=stage: alive.__setitem__(stage, set(held))
        )
        block[-1].register_forward_hook(lambda _m, _i, out, stage=stage: Probe.apply(out, stage))
    step(encoder, units, decoders, images)
    assert alive == {0: set(), 1: {0}, 2: {1}, 3: {2}}
    assert held == set()


def test_parameters_are_reported_ready_once_with_their_final_gradient():
    encoder, units, decoders, images = make("loco")
    seen: dict[int, torch.Tensor] = {}

    def on_ready(parameters):
        for parameter in parameters:
            assert id(parameter) not in seen
            seen[id(parameter)] = parameter.grad.clone()

    step(encoder, units, decoders, images, on_ready)
    everything = [*encoder.parameters(), *decoders.parameters()]
    assert len(seen) == len(everything)
    assert all(torch.equal(seen[id(p)], p.grad) for p in everything)
