"""Compiled stages: the same gradients, and a word where they waste time."""

import copy
from functools import partialmethod

import pytest
import torch
from mmengine.logging import MMLogger
from torch import nn
from torch._dynamo.utils import counters

from pretrain.losses import Batch
from tests.helpers.tiny_model import tiny_model


@pytest.mark.slow
def test_gradients_are_those_without(monkeypatch):
    """A stage of one unit, recomputed, and a shared one whose graph is walked twice.

    The backend traces, decomposes and partitions as inductor does, and leaves out its C++.
    """
    backend = "aot_eager_decomp_partition"
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend=backend))
    torch._dynamo.reset()
    counters.clear()
    batch = Batch(torch.randn(6, 3, 32, 32, dtype=torch.float64))
    plain = tiny_model("loco")
    compiled = tiny_model("loco", compile=["res2", "res3"], recompute=["res2"])
    for _ in range(2):
        losses = plain.backward(batch), compiled.backward(batch)
        torch.testing.assert_close(*losses, rtol=1e-9, atol=0)
    for (name, p), q in zip(plain.named_parameters(), compiled.named_parameters(), strict=True):
        assert q[0] == name
        assert (p.grad - q[1].grad).norm() <= 1e-9 * p.grad.norm(), name
    for name, buffer in plain.named_buffers():
        torch.testing.assert_close(compiled.get_buffer(name), buffer, rtol=1e-9, atol=0, msg=name)
    assert counters["stats"]["unique_graphs"] >= 2, "nothing was compiled"
    assert not counters["unimplemented"] and not counters["graph_break"]
    copy.deepcopy(compiled)(batch.images)  # an evaluation's copy runs


def test_shared_stages_are_told_of(tmp_path):
    log = tmp_path / "log"
    MMLogger.get_instance("compile", log_file=str(log))
    tiny_model("loco", compile=["res2", "res3"])
    assert "compile: res3 belongs to 2 units" in log.read_text()
    assert "res2 belongs" not in log.read_text()


def test_an_unknown_stage_lists_those_that_exist():
    with pytest.raises(ValueError, match="compile names 'res9', but the stages of resnet_tiny are"):
        tiny_model("loco", compile=["res9"])
