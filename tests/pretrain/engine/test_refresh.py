"""The tables beside the runs follow every run that ends well, and never are its fault."""

import json
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from pretrain.engine import refresh
from pretrain.engine.refresh import refresh_tables
from tests.helpers.run_records import make_record

CALL = """
import json, os, sys, time
from pathlib import Path
out = Path(sys.argv[-1])
(out / "calls").open("a").write(json.dumps(sys.argv[1:-2]) + "\\n")
while os.environ.get("WAIT_FOR") and not Path(os.environ["WAIT_FOR"]).exists():
    time.sleep(0.01)
"""


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Three runs, and a stand-in for ``python -m results`` that notes what it was given."""
    monkeypatch.setenv("REFRESH_TABLES", "1")
    stand_in = tmp_path / "results.py"
    stand_in.write_text(CALL)
    really_run = subprocess.run

    def run(command, **how):
        assert command[1:3] == ["-m", "results"]
        return really_run([command[0], "-S", str(stand_in), *command[3:]], **how)

    monkeypatch.setattr(refresh.subprocess, "run", run)
    for name in "abc":
        make_record().write(tmp_path / "runs" / name / "record.json")
    (tmp_path / "runs/footprint_x").mkdir()
    (tmp_path / "runs/footprint_x/footprint.json").write_text("{}")
    make_record().write(tmp_path / "runs/data/deep/record.json")
    return tmp_path / "runs"


def calls(out):
    """The runs' names, of each call."""
    lines = (out / "calls").read_text().splitlines() if (out / "calls").is_file() else []
    return [[Path(path).parent.name for path in json.loads(line)] for line in lines]


def test_reads_every_run_beside_and_nothing_deeper(runs, capsys):
    refresh_tables(runs / "a")
    assert calls(runs / "tables") == [["a", "b", "c", "footprint_x"]]
    assert f"wrote the tables of 4 runs in {runs}/tables" in capsys.readouterr().out


CHANGES = {
    "newer": lambda runs: os.utime(runs / "a/record.json", (time.time() + 9,) * 2),
    "older": lambda runs: os.utime(runs / "a/record.json", (1e9,) * 2),
    "gone": lambda runs: (runs / "a/record.json").unlink(),
    "moved": lambda runs: (runs / "a").rename(runs / "z"),
    "changed": lambda runs: make_record(seed=5).write(runs / "a/record.json"),
    "another run": lambda runs: make_record(seed=1).write(runs / "d/record.json"),
    "a report": lambda runs: (runs / "footprint_x/footprint.json").write_text("{ }"),
}


@pytest.mark.parametrize("ahead", [0, 7200])
@pytest.mark.parametrize("change", CHANGES)
def test_any_change_is_seen_whatever_the_clock_says(change, ahead, runs):
    """What was written by a clock that was two hours ahead, too; without one nothing is done."""
    for path in runs.glob("*/record.json"):
        os.utime(path, (time.time() + ahead,) * 2)
    for _ in range(2):
        refresh_tables(runs / "a")
    assert len(calls(runs / "tables")) == 1
    CHANGES[change](runs)
    os.utime(runs / "tables/.refreshed", (time.time() + ahead,) * 2)
    refresh_tables(runs / "a")
    assert len(calls(runs / "tables")) == 2


def test_a_run_that_ends_while_another_refreshes_is_read_too(runs, monkeypatch):
    """The first has read its records before the others end; of those one refreshes for both."""
    monkeypatch.setenv("WAIT_FOR", str(runs.parent / "both have ended"))
    threads = [threading.Thread(target=refresh_tables, args=[runs / name]) for name in "ade"]
    threads[0].start()
    while not calls(runs / "tables"):
        time.sleep(0.01)
    for name in "de":
        make_record(seed=1).write(runs / name / "record.json")
    for thread in threads[1:]:
        thread.start()
    (runs.parent / "both have ended").touch()
    for thread in threads:
        thread.join()
    assert calls(runs / "tables")[1:] == [["a", "b", "c", "d", "e", "footprint_x"]]


@pytest.mark.parametrize("off", ["0", None])
def test_can_be_switched_off_and_is_the_launchers_doing(runs, monkeypatch, off):
    monkeypatch.delenv("REFRESH_TABLES")
    if off:
        monkeypatch.setenv("REFRESH_TABLES", off)
    there = sorted(runs.parent.rglob("*"))
    refresh_tables(runs / "a")
    assert sorted(runs.parent.rglob("*")) == there


def test_another_folder_can_be_named(runs, monkeypatch):
    monkeypatch.setenv("REFRESH_TABLES", str(runs.parent / "out"))
    refresh_tables(runs / "a")
    assert len(calls(runs.parent / "out")) == 1 and not (runs / "tables").exists()


def test_a_fault_is_told_and_not_raised(runs, monkeypatch, capsys):
    (runs.parent / "results.py").write_text("raise SystemExit('no font')")
    refresh_tables(runs / "a")
    said = capsys.readouterr().out
    assert f"the tables in {runs}/tables are not up to date: no font; write them with: " in said
    (runs.parent / "results.py").write_text(CALL)
    refresh_tables(runs / "a")
    assert len(calls(runs / "tables")) == 1, "it is tried again"
    monkeypatch.setenv("REFRESH_TABLES", "/proc/nowhere")
    refresh_tables(runs / "a")
    assert "the tables in /proc/nowhere are not up to date: " in capsys.readouterr().out
