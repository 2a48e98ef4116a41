"""One detector, trained for two iterations, that the tests of transfer/ share."""

import shutil
from pathlib import Path

import pytest

from tests.helpers.detectors import config
from tests.helpers.streets import write_streets


@pytest.fixture(scope="session")
def trained(coco, backbone_file, tmp_path_factory) -> Path:
    """The folder of the demo's LoCo detector; read only."""
    from mmdet.utils import register_all_modules
    from mmengine.runner import Runner

    from transfer.train import prepare

    register_all_modules()
    cfg = config(coco, backbone_file)
    cfg.work_dir = str(tmp_path_factory.mktemp("trained") / "run")
    prepare(cfg, world_size=1)
    Runner.from_cfg(cfg).train()
    return Path(cfg.work_dir)


@pytest.fixture
def copied(trained, tmp_path) -> Path:
    """The same in a folder of its own, to be spoilt."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture
def city_root(tmp_path) -> Path:
    """Four pictures of Cityscapes for training, one for validation."""
    return write_streets(tmp_path / "cityscapes")
