"""Layouts by name and by stages, and those that are refused."""

import pytest

from pretrain.encoders import build_encoder
from pretrain.units import Unit, build_units, check_units


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


@pytest.mark.parametrize(
    ("units", "words"),
    [
        ([Unit("a", 0, 2), Unit("b", 3, 4)], "right after"),
        ([Unit("a", 0, 2), Unit("b", 1, 3), Unit("c", 0, 4)], "not before it"),
        ([Unit("a", 0, 3), Unit("b", 1, 2)], "end at block 4"),
        ([Unit("a", 0, 4), Unit("b", 4, 4)], "holds no block"),
        ([], "end at block 4"),
    ],
)
def test_impossible_layouts_are_refused(units, words):
    with pytest.raises(ValueError, match=words):
        check_units(units, 4)


def test_an_unknown_method_lists_the_known_ones():
    with pytest.raises(
        ValueError, match="unknown method 'byol'; the methods are: simclr, gim, loco,"
    ):
        build_units("byol", build_encoder("resnet_tiny"))


def test_a_layout_past_the_end_names_the_stages():
    with pytest.raises(ValueError, match=r"unit \(3, 4\).*res2, res3, res4, res5"):
        build_units([(0, 1, 2, 3), (3, 4)], build_encoder("resnet_tiny"))
