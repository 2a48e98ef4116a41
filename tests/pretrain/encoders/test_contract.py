"""Local learning asks for a chain of blocks and no more: an encoder without a convolution."""

import pytest
import torch

from pretrain.costs.architecture import architecture
from pretrain.costs.footprint import stage_report
from pretrain.costs.stage_costs import stage_costs
from pretrain.costs.step_cost import STEPS, Workload, count_step, decoder_macs, work_parts
from pretrain.encoders import build_encoder
from pretrain.losses import Batch
from tests.helpers import patch_mlp
from tests.helpers.tiny_model import tiny_model


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    patch_mlp.register(monkeypatch)


def tiny(units, **arguments):
    return tiny_model(units, "patch_mlp", decoder={"conv_blocks": 0, "out_dim": 8}, **arguments)


@pytest.mark.parametrize("units", ["simclr", "gim", "loco"])
def test_recomputation_drops_what_the_first_run_dropped(units):
    batch = Batch(torch.randn(6, 3, 32, 32, dtype=torch.float64))
    models = tiny(units), tiny(units, recompute=("low", "middle", "high"))
    for model in models:
        torch.manual_seed(1)
        model.backward(batch)
    for (name, p), q in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        assert p.grad.norm() > 0, name
        torch.testing.assert_close(q.grad, p.grad, rtol=1e-12, atol=1e-15, msg=name)


def test_the_costs_of_its_stages_worked_out_by_hand():
    costs = stage_costs("patch_mlp", batch_size=4, image_size=32)  # 16 patches of 192 numbers
    assert [cost.elements for cost in costs] == [16 * 12, 16 * (12 + 12), 16 * 20]
    assert [cost.macs for cost in costs] == [16 * 192 * 12, 16 * 2 * 12 * 12, 16 * 12 * 20]
    assert sum(s["memory_percent"] for s in stage_report(Workload("patch_mlp", 4, 32))["stages"]) \
        == pytest.approx(100, abs=0.01)  # fmt: skip
    assert architecture("patch_mlp") == []


def test_the_parts_of_its_step_add_up():
    work = Workload("patch_mlp", 8, 32)
    forward = 8 * 16 * (192 * 12 + 2 * 12 * 12 + 12 * 20)  # each input's gradient but the images'
    for name in ("simclr", "gim"):
        step = count_step(work, STEPS[name])
        parts = work_parts(step, decoder_macs(work, STEPS[name]))
        assert sum(parts.values()) == step.macs and step.peak_bytes > 0
        inputs = 8 * 16 * (2 * 12 * 12 + 12 * 20) if name == "simclr" else 8 * 16 * 12 * 12
        assert parts["matrix_products"] == 2 * forward + inputs


def test_it_has_no_conv_block_for_decoders():
    with pytest.raises(ValueError, match=r"no conv block .*set model\.decoder\.conv_blocks=0"):
        tiny_model("loco", "patch_mlp", decoder={"conv_blocks": 1})


def test_fresh_weights_are_drawn_in_place():
    encoder = build_encoder("patch_mlp")
    before = encoder.layers[0][0].weight.clone()
    encoder.initialise(encoder)
    assert not torch.equal(before, encoder.layers[0][0].weight)


def test_strides_of_an_encoder_without_maps_are_refused(monkeypatch):
    monkeypatch.setattr(patch_mlp.PatchMLP, "strides", (8, 8, 8), raising=False)
    with pytest.raises(ValueError, match="'patch_mlp' has strides, but is no ConvolutionalEncoder"):
        build_encoder("patch_mlp")
