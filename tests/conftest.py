"""Small inputs that several tests share."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from tests.helpers.places import ROOT

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("REFRESH_TABLES", "0")  # tests/pretrain/engine/test_refresh.py has it on
torch.set_num_threads(1)


def pytest_terminal_summary(terminalreporter):
    """In one line what was skipped and what it needs, which is the reason that every skip gives."""
    skipped = terminalreporter.stats.get("skipped", [])
    needs = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    if needs:
        told = "; ".join(f"{n} for want of {what}" for what, n in needs.most_common())
        terminalreporter.write_line(f"{len(skipped)} skipped: {told}")


@pytest.fixture(autouse=True)
def no_default_scope():
    """mmengine's default scope is global: a Runner in one test must not change the next one's."""
    if registry := sys.modules.get("mmengine.registry"):
        registry.DefaultScope._instance_dict.clear()


@pytest.fixture(scope="session")
def coco(tmp_path_factory) -> Path:
    """16 + 4 drawn scenes in COCO's format."""
    from transfer.scenes.datasets import write_coco

    root = tmp_path_factory.mktemp("scenes") / "coco"
    write_coco(root, train=16, val=4, size=(128, 128), seed=0)
    return root


@pytest.fixture(scope="session")
def backbone_file(tmp_path_factory) -> Path:
    """A backbone file of resnet_tiny that says it is LoCo's."""
    from pretrain.backbone_file import IMAGENET_MEAN, IMAGENET_STD, Provenance, write_backbone
    from pretrain.encoders import build_encoder

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("backbone") / "loco.safetensors"
    provenance = Provenance(
        method="loco", encoder="resnet_tiny", epochs=1, dataset="scenes_coco",
        dataset_fingerprint="f" * 64, deviations=(), config_hash="c" * 64, git_commit="", seed=0,
        mean=IMAGENET_MEAN, std=IMAGENET_STD,
    )  # fmt: skip
    write_backbone(build_encoder("resnet_tiny"), path, provenance)
    return path


@pytest.fixture(scope="session")
def run():
    """Run a command of the project in its root: ``run("tools/pretrain.sh", ...)``."""

    def command(*args, timeout=900):
        first = ["bash"] if str(args[0]).endswith(".sh") else [sys.executable]
        return subprocess.run(
            [*first, *map(str, args)], cwd=ROOT, capture_output=True, text=True, timeout=timeout,
            env={**os.environ, "PYTHON": sys.executable},
        )  # fmt: skip

    return command
