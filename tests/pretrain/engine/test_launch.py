"""What is run is what the config says."""

import pytest
from mmengine.config import Config

from pretrain.engine import launch
from pretrain.engine.atomic_files import AtomicRunner
from pretrain.engine.watchdog import Watchdog
from tests.helpers import toy_training as toy

MMENGINES = {"RuntimeInfoHook", "IterTimerHook", "DistSamplerSeedHook", "LoggerHook"}
GUARDS = {"FiniteNumbers", "Pace", "Progress"}


@pytest.mark.parametrize("name", ["pretrain", "linear", "mask_rcnn_r50"])
def test_the_configs_have_the_guards(name):
    cfg = Config.fromfile(f"configs/_base_/{name}.py", import_custom_modules=False)
    assert {hook.type for hook in cfg.default_hooks.values()} >= GUARDS


def test_a_run_has_the_hooks_of_its_config_and_no_others(tmp_path, monkeypatch):
    found = []
    monkeypatch.setattr(AtomicRunner, "train", lambda self: found.extend(self.hooks))
    launch.train(toy.config(tmp_path, experiment_name="hooks"), Watchdog(0, 1, 600))
    named = {"AtomicCheckpoint", "Diary", "PlainCheckpoint"}
    assert {type(hook).__name__ for hook in found} == MMENGINES | named | {"ParamSchedulerHook"}
