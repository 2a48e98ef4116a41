"""The pages' steps and the commands in configs' docstrings work as written, one after the other."""

import re
from functools import cache
from pathlib import Path

import pytest
from mmengine.config import Config

from pretrain.engine.launch import argument_parser, load_config
from pretrain.hooks import BACKBONE
from pretrain.train import NAMES

read = cache(lambda path: Config.fromfile(path, import_custom_modules=False))
LEAVES = sorted(
    map(str, [*Path("configs").glob("mask_rcnn_*.py"), *Path("configs/linear").glob("*.py")])
)
DEMO = sorted(map(str, Path("configs/demo").glob("mask_rcnn_*_cityscapes.py"))) + [
    f"configs/demo/mask_rcnn_{method}.py" for method in ("simclr", "gim", "loco", "random")
]


def left_by(command: str) -> tuple[str, str, str]:
    """Backbone file, method and encoder of a pretraining's command."""
    config, *options = command.removeprefix("bash tools/pretrain.sh ").split()
    cfg = load_config(argument_parser("").parse_args([config, *options]), NAMES)
    return str(Path(cfg.work_dir) / BACKBONE), cfg.method, cfg.model.encoder


@cache
def backbones() -> dict[str, tuple[str, str]]:
    """What every pretraining config's own command leaves; and the pages' export."""
    commands = [
        re.search(r"^bash tools/pretrain\.sh .*$", Path(path).read_text(), re.MULTILINE)[0]
        for folder in ("pretrain", "demo")
        for path in sorted(map(str, Path("configs", folder).glob("*.py")))
        if folder == "pretrain" or "pretrain_" in path
    ]
    found = {file: (method, encoder) for file, method, encoder in map(left_by, commands)}
    export = re.search(
        r"pretrain\.export torchvision \S+ --out (\S+)", Path("docs/pages/reproduce.md").read_text()
    )
    return found | {export[1]: ("supervised", "resnet50")}


@pytest.mark.slow
@pytest.mark.parametrize("path", [*LEAVES, *DEMO])
def test_a_leaf_takes_the_backbone_that_its_method_s_command_leaves(path):
    cfg = read(path)
    encoder = cfg.encoder if "linear" in path else cfg.model.backbone.encoder
    if cfg.method == "random":
        assert cfg.backbone_file is None
    else:
        assert backbones()[cfg.backbone_file] == (cfg.method, encoder)
