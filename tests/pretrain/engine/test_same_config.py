"""Which values make two configs the same run."""

import json

from pretrain.engine.same_config import config_text, differences
from tests.helpers import toy_training as toy


def test_circumstances_are_no_part_of_a_config():
    there, here = toy.config("a"), toy.config("b", log_level="INFO")
    here.default_hooks.checkpoint.interval = 7
    here.train_dataloader.num_workers = 4
    here.train_dataloader.persistent_workers = True
    assert differences(json.loads(config_text(there)), json.loads(config_text(here))) == []
    here.train_dataloader.batch_size = 5
    assert differences(json.loads(config_text(there)), json.loads(config_text(here)))
