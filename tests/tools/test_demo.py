"""The demo, small: killed in the middle, it continues and ends with the whole of its results."""

import os
import signal
import subprocess
import sys
import time

import pytest

from results.record.run_record import RunRecord
from tests.helpers.places import ROOT

RUNS = {"pretrain_loco", "mask_rcnn_loco", "mask_rcnn_loco_cityscapes"}


@pytest.mark.slow
def test_a_killed_demo_continues(tmp_path, run):
    process = subprocess.Popen(
        [sys.executable, ROOT / "tools/demo.py", ".", "--smoke"], cwd=tmp_path,
        start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHON": sys.executable},
    )  # fmt: skip
    backbone = tmp_path / "runs/pretrain_loco/record.json"
    while process.poll() is None and not list(tmp_path.glob("runs/mask_rcnn_*/*")):
        time.sleep(0.05)  # until the step after it has begun
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert backbone.exists() and not (tmp_path / "report.html").exists()
    first = backbone.read_bytes()

    again = run("tools/demo.py", tmp_path, "--smoke")
    assert again.returncode == 0, again.stdout + again.stderr
    assert backbone.read_bytes() == first, "the finished pretraining was run again"
    assert {p.parent.name for p in tmp_path.glob("runs/*/record.json")} == RUNS
    record = RunRecord.read(tmp_path / "runs/mask_rcnn_loco_cityscapes/record.json")
    assert record.metrics.keys() >= {"box_ap", "mask_ap"}
    assert list((tmp_path / "tables").glob("*.tex"))
    report = (tmp_path / "report.html").read_text()
    assert "data:image/png;base64," in report and "LoCo" in report
