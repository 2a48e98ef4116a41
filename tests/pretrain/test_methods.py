"""What a method is stands once; what a pretraining changed of it is told in words."""

import pytest

from pretrain.methods import METHODS, complete, setting_of, settings_of
from results.record.migration import setting_until_version_3

CHANGES = [
    {}, {"units": "loco_1_block"}, {"decoder": {"conv_blocks": 2}}, {"loss": {"temperature": 0.5}},
    {"decoder": {"downsample": False, "mlp_layers": 4}}, {"sharing": {"l2": 1e-2}},
    {"sharing": {"upper_gradient_only": True}}, {"decoder": {"downsample": True}},
    {"units": [[0, 1], [1, 2, 3]]},
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("method", METHODS)
def test_settings_have_the_words_that_older_records_have(method, change):
    model = dict(change)
    complete(model, method)
    settings = settings_of(model)
    assert setting_of(method, settings) == setting_until_version_3(method, settings)
    as_it_is = change in ({}, {"decoder": {"downsample": True}})
    assert (setting_of(method, settings) == "") == as_it_is


def test_nobody_knows_the_settings():
    assert setting_of("loco", {}) == setting_of("supervised", {}) == ""


def test_another_loss_is_told_by_its_name_and_its_arguments():
    model = {"loss": {"type": "Other", "weight": 0.5}}
    complete(model, "loco")
    assert setting_of("loco", settings_of(model)) == "loss=Other weight=0.5"
