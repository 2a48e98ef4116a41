"""A unit whose embeddings collapse is told of."""

import re
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import LoggerHook
from mmengine.logging import MessageHub

from pretrain.engine.collapse import EmbeddingSpread, spread
from tests.helpers import toy_training as toy


def test_the_spread_by_hand():
    uniform = torch.randn(20000, 16, generator=torch.Generator().manual_seed(0))
    assert spread(7 * uniform) == pytest.approx(1, abs=0.01)  # a sphere, at any length
    assert spread(torch.ones(8, 16)) == pytest.approx(0, abs=1e-6)
    two = torch.eye(16)[[0, 1] * 4]  # half at e1, half at e2: 0.5 in two channels of 16
    assert spread(two) == pytest.approx(0.5 * 2 / 16 * 4)


class Watched:
    """As much of a Runner as EmbeddingSpread looks at: 10 batches an epoch, every third logged."""

    def __init__(self, model):
        self.model, self.warnings = model, []
        self.hooks = [LoggerHook(interval=3)]
        self.train_dataloader = range(10)
        self.logger = SimpleNamespace(warning=self.warnings.append)
        self.message_hub = MessageHub.get_instance(f"spread{next(toy.COUNT)}")

    def step(self, hook, iteration, embeddings):
        """Let every decoder give these embeddings; return whether it was watched."""
        self.iter = iteration
        hook.before_train_iter(self, iteration % 10)
        watched = [len(decoder._forward_hooks) for decoder in self.model.decoders]
        for decoder, given in zip(self.model.decoders, embeddings, strict=True):
            for part in given.chunk(2):  # as micro-batches do
                decoder(part)
        hook.after_train_iter(self, iteration % 10)
        assert not any(decoder._forward_hooks for decoder in self.model.decoders)
        return watched


def test_a_unit_that_collapses_is_warned_about_once():
    units = [SimpleNamespace(name=name) for name in ("res2+res3", "res3+res4")]
    runner = Watched(SimpleNamespace(units=units, decoders=[torch.nn.Identity() for _ in units]))
    hook = EmbeddingSpread()
    hook.before_train(runner)
    fine = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
    near = torch.ones(64, 16) + 0.05 * fine
    low = 0
    for iteration in range(30):
        collapsed = iteration in (2, 5) or iteration > 9  # twice in a row is none yet
        watched = runner.step(hook, iteration, [fine, near if collapsed else fine])
        logged = iteration % 10 in (2, 5, 8, 9)  # when LoggerHook logs
        assert watched == [int(logged)] * 2
        if logged:
            low = low + 1 if collapsed else 0
        assert len(runner.warnings) == (low >= 3)
    assert re.search(
        r"iteration 19: .* unit res3\+res4 have collapsed: .* 3 logs", runner.warnings[0]
    )
    values = [runner.message_hub.get_scalar(f"train/spread_{u.name}").current() for u in units]
    assert values == pytest.approx([spread(fine), spread(near)])
    assert values[0] > 0.9 and values[1] < 0.1
