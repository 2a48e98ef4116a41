"""Micro-batches whose gradients are those of the large batch."""

import copy

import pytest
import torch
from torch import nn

from pretrain.local_backward import cut_into_segments
from pretrain.losses import Batch
from pretrain.losses.info_nce import info_nce
from pretrain.step.cached_gradients import cached_backward
from tests.helpers import patch_mlp
from tests.helpers.tiny_model import tiny_model

TOLERANCE = 1e-10  # relative, float64
PHOTOGRAPHS = 5


def fix_statistics(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


@pytest.fixture
def images() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(2 * PHOTOGRAPHS, 3, 32, 32, dtype=torch.float64)


@pytest.mark.parametrize(
    ("units", "options"),
    [
        ("simclr", {}),
        ("gim", {}),
        ("loco", {}),
        ("loco", {"sharing": {"upper_gradient_only": True}}),
        ("loco", {"sharing": {"l2": 1e-3}}),
        ("loco", {"recompute": ["res3"]}),
    ],
    ids=str,
)
@pytest.mark.parametrize("micro_batch_size", [1, 2, 5, 9])  # 5 = 2 + 2 + 1; 9 is more than all
def test_gradients_are_the_large_batchs(units, options, micro_batch_size, images):
    whole, parts = (
        tiny_model(units, micro_batch_size=size, **options) for size in (None, micro_batch_size)
    )
    fix_statistics(whole), fix_statistics(parts)
    losses = whole.backward(Batch(images))
    torch.testing.assert_close(parts.backward(Batch(images)), losses, rtol=TOLERANCE, atol=0)
    for (name, p), q in zip(whole.named_parameters(), parts.parameters(), strict=True):
        assert (p.grad - q.grad).norm() <= TOLERANCE * p.grad.norm(), name


@pytest.mark.parametrize(("encoder", "conv_blocks"), [("resnet_tiny", 1), ("patch_mlp", 0)])
def test_norms_and_dropout_see_a_micro_batch_once(encoder, conv_blocks, images, monkeypatch):
    """Slowly: embeddings of every micro-batch in one graph, one loss over them all."""
    patch_mlp.register(monkeypatch)
    decoder = {"conv_blocks": conv_blocks}
    parts = tiny_model("simclr", encoder, micro_batch_size=2, decoder=decoder)
    slow = copy.deepcopy(parts)
    torch.manual_seed(2)
    first, second = images.chunk(2)
    embeddings = [
        slow.decoders[0](slow.encoder(torch.cat([first[k : k + 2], second[k : k + 2]]))[-1])
        for k in (0, 2, 4)
    ]
    views = [torch.cat([part.chunk(2)[view] for part in embeddings]) for view in (0, 1)]
    loss = info_nce(torch.cat(views), 0.1)
    loss.backward()
    drawn = torch.rand(1)
    torch.manual_seed(2)
    torch.testing.assert_close(
        parts.backward(Batch(images)), [loss.detach()], rtol=TOLERANCE, atol=0
    )
    assert torch.equal(torch.rand(1), drawn), "the second pass leaves the generator alone"
    for (name, p), q in zip(slow.named_parameters(), parts.parameters(), strict=True):
        assert (p.grad - q.grad).norm() <= TOLERANCE * p.grad.norm(), name
    for name, buffer in slow.named_buffers():
        torch.testing.assert_close(parts.get_buffer(name), buffer, rtol=TOLERANCE, atol=0, msg=name)


def test_a_gradient_is_ready_once_when_the_last_micro_batch_is_in(images):
    model = tiny_model()
    ready: dict[int, torch.Tensor] = {}

    def on_ready(parameters):
        for parameter in parameters:
            assert id(parameter) not in ready
            ready[id(parameter)] = parameter.grad.clone()

    cached_backward(
        images, cut_into_segments(model.encoder.blocks(), model.units), list(model.decoders),
        [lambda z: info_nce(z, 0.1)] * len(model.units), on_ready, micro_batch_size=2,
    )  # fmt: skip
    for name, parameter in model.named_parameters():
        assert torch.equal(ready[id(parameter)], parameter.grad), name


def test_a_micro_batch_of_nothing_is_refused():
    with pytest.raises(ValueError, match="micro_batch_size is 0; expected 1 or more"):
        tiny_model(micro_batch_size=0)
