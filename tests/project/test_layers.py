"""The layers that pyproject.toml declares hold, and each of them is seen when it is broken."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.places import ROOT


def lint(root: Path) -> str:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache", "--no-logo"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True).stdout


def test_the_layers_hold() -> None:
    assert "0 broken" in lint(ROOT)


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("pretrain/losses/info_nce.py", "import mmdet.apis", "pretrain knows nothing of"),
        ("pretrain/hooks.py", "from results import tables", "pretrain knows nothing of"),
        ("pretrain/images/decode.py", "import transfer.data.splits", "pretrain knows nothing of"),
        ("transfer/hooks.py", "from pretrain import losses", "transfer trains no backbones"),
        ("transfer/hooks.py", "from results.tables import load", "transfer trains no backbones"),
        ("results/tables/load.py", "import torch", "results imports neither"),
        ("results/record/run_record.py", "import pandas", "the run record stands alone"),
        ("results/record/run_record.py", "from results.tables import load", "records below tables"),
        ("pretrain/units.py", "from pretrain import model", "what the method is made of"),
    ],
)
def test_a_forbidden_import_is_seen(tmp_path: Path, file: str, line: str, contract: str) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in ("pretrain", "transfer", "results"):
        shutil.copytree(ROOT / package, tmp_path / package)
    with (tmp_path / file).open("a") as source:
        source.write(f"\n{line}\n")
    told = " ".join(lint(tmp_path).split())
    assert re.search(f"{contract}[^.]*? BROKEN", told)
