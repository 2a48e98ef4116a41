"""The command: what it says of a dataset, and its exit status."""

import json
import subprocess
import sys

import numpy as np
from PIL import Image

from tests.helpers.places import ROOT
from tests.helpers.streets import write_pair
from transfer import prepare
from transfer.scenes.datasets import write_coco
from transfer.scenes.shapes import CATEGORIES


def test_check_reports_both_splits_and_sizes_that_are_not_those_listed(tmp_path, capsys):
    root = tmp_path / "coco"
    write_coco(root, 8, 2, (64, 64), 0)
    arguments = ["check", "--data-root", str(root), "--categories", *CATEGORIES]
    assert prepare.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[1].split(",")[0] for line in lines] == ["8 images", "2 images"]
    folder = root / "train2017"
    Image.new("RGB", (32, 64)).save(folder / "000000000002.png")
    Image.new("RGB", (68, 64)).save(folder / "000000000003.png")
    file = root / "annotations" / "instances_train2017.json"
    document = json.loads(file.read_text())
    document["images"][2]["width"] = 68  # so listed, therefore right
    file.write_text(json.dumps(document))
    (folder / "000000000005.png").write_bytes(b"<html>")
    assert prepare.main(arguments) == 1
    message = capsys.readouterr().err
    assert "2 of 8 images are not what the annotations say" in message
    assert "000000000002.png has 32x64 pixels, listed are 64x64; " in message
    assert "000000000005.png cannot be read (UnidentifiedImageError)" in message


def test_cityscapes_has_to_be_prepared_before_it_passes(city_root, capsys):
    arguments = ["check", "--format", "cityscapes", "--data-root", str(city_root)]
    assert prepare.main(arguments) == 1
    command = f"python -m transfer.prepare cityscapes --data-root {city_root}"
    assert command in capsys.readouterr().err
    assert prepare.main(["cityscapes", "--data-root", str(city_root), "--workers", "1"]) == 0
    assert prepare.main(arguments) == 0
    out = capsys.readouterr().out
    assert "4 images, all present and of the sizes listed (the published one has 2,975); " in out
    assert "15 annotations, 3 of them crowds" in out and "leftImg8bit/test" not in out
    write_pair(city_root, "test", "berlin_000000_000019", np.full((12, 17), 7))
    assert prepare.main(arguments) == 0
    assert "leftImg8bit/test: 1 of 1,525 images" in capsys.readouterr().out


def test_a_fault_ends_the_command_with_status_2_and_one_line(tmp_path):
    """And without importing what takes seconds."""
    code = (
        "import runpy, sys; sys.argv[0] = 'prepare'; status = 0\n"
        "try: runpy.run_module('transfer.prepare', run_name='__main__')\n"
        "except SystemExit as end: status = end.code\n"
        "heavy = {'torch', 'mmdet', 'mmengine', 'mmcv'} & set(sys.modules)\n"
        "sys.exit(f'imports {heavy}' if heavy else status)"
    )
    command = [sys.executable, "-c", code, "check", "--data-root", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    said = f"error: There is no image folder {tmp_path}/train2017"
    assert done.stderr.startswith(said) and done.stderr.count("\n") == 1
