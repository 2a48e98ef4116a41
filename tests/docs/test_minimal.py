"""The example of a step in plain torch: it runs, and it learns."""

import math
import runpy

from tests.helpers.places import ROOT


def test_every_unit_learns_to_tell_eight_images_apart():
    history = runpy.run_path(str(ROOT / "docs/minimal.py"))["train"](steps=10)
    assert len(history) == 10 and {len(losses) for losses in history} == {3}
    chance = math.log(2 * 8 - 1)
    assert min(history[0]) > chance > 2 * max(history[-1])
