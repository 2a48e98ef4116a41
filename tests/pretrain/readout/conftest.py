"""Images and weights that are read out."""

import pytest

from pretrain.readout.frozen_encoder import write_random_backbone
from tests.helpers.labelled import write_colours


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    return write_colours(tmp_path_factory.mktemp("images") / "colours")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    path = tmp_path_factory.mktemp("backbone") / "random.safetensors"
    write_random_backbone("resnet_tiny", 0, path)
    return path
