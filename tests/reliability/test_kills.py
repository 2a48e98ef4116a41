"""Killed and started again, every command ends as if nobody had: some of the campaign's kills.

``python tests.reliability`` has many more, at random moments.
"""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.run_records import make_record
from tests.reliability import __main__ as measure_reliability
from tests.reliability import kills as kill_campaign
from tests.reliability.files import meaning, meanings
from tests.reliability.kills import campaign, one_run
from tests.reliability.moments import Moment, Writes, draw
from tests.reliability.places import PLACES
from tests.reliability.reference import Reference, undisturbed
from tests.reliability.session import Session

TOOLS = Path(measure_reliability.__file__).parent
KILL, TERM = signal.SIGKILL, signal.SIGTERM


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tmp_path_factory.mktemp("kills")


def broken_off(base, name, *plan):
    """Every kill of the plan, each survived and followed by the next start, then the end."""
    place = PLACES[name]
    kills = one_run(place, base, 0, undisturbed(place, base), plan)
    assert [kill.faults for kill in kills] == [[]] * len(plan)
    assert [kill.signal for kill in kills] == [number.name for _, number in plan]
    return kills


# ---- the places ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_pretraining_stopped_by_the_scheduler_and_killed_while_it_saves(base):
    stop, kill = broken_off(
        base, "pretraining",
        (Moment(0.0, name="iter_2.pth"), TERM), (Moment(0.0, name="iter_4.pth"), KILL),
    )  # fmt: skip
    assert (stop.status, kill.status) == (75, -KILL)
    assert kill.left_at_the_end == 0, "what it was writing is removed"


@pytest.mark.slow
def test_a_killed_pretraining_whose_pointer_is_lost_goes_on(base):
    broken_off(
        base, "a missing pointer",
        (Moment(0.0, name="iter_4.pth"), KILL), (Moment(0.0, name="backbone"), KILL),
    )  # fmt: skip  # the second one has no iteration left


@pytest.mark.slow
def test_two_processes_told_to_stop_while_they_start(base):
    kills = broken_off(base, "start-up", (Moment(0.3), TERM), (Moment(2.0), TERM))
    assert {kill.status for kill in kills} <= {75, -TERM}  # the shell's first moment is not ours


@pytest.mark.slow
def test_a_process_that_never_comes_is_named(base):
    kills = broken_off(
        base, "a process that never comes", (Moment(0.0), signal.SIGSTOP), (Moment(0.0), KILL)
    )
    assert [kill.status for kill in kills] == [1, 1]


@pytest.mark.slow
def test_a_loader_worker_that_dies_or_is_stopped_is_named(base):
    kills = broken_off(
        base, "a loader worker",
        (Moment(0.0), KILL), (Moment(0.0, name="iter_2.pth"), signal.SIGSTOP),
    )  # fmt: skip
    assert kills[0].status == 1


def test_what_is_wrong_with_the_end_of_a_command_that_lost_a_process():
    assert kill_campaign.untold("error: rank 1 was killed\n", 1) == []
    assert kill_campaign.untold("all done\n", 0) == []
    for output, status in [
        ("", 1), ("error: a\nerror: b\n", 1), ("error: a\n", 0), ("Traceback\nerror: a\n", 1),
        ("error: a\n", -9),
    ]:  # fmt: skip
        (fault,) = kill_campaign.untold(output, status)
        assert fault.startswith(f"status {status}, told in ")


@pytest.mark.slow
def test_a_transfer_killed_in_an_epoch_and_its_evaluation(base):
    broken_off(base, "transfer", (Moment(0.0, name="iter_8.pth"), KILL))
    (kill,) = broken_off(base, "evaluation", (Moment(0.0, name="000.png"), KILL))
    assert kill.whole_files >= 8  # the finished run's, read to their ends


def test_an_export_killed_as_it_writes(base):
    broken_off(base, "export", (Moment(0.0, write=1), KILL))


def test_a_preparation_killed_twice(base):
    broken_off(base, "preparation", (Moment(0.1), TERM), (Moment(0.0, write=1), KILL))


def test_tables_killed_half_way_are_old_or_new(base):
    (kill,) = broken_off(base, "tables", (Moment(0.0, write=9), KILL))
    assert kill.whole_files >= 8  # the ninth write had begun; how many more, a busy machine decides


def test_a_reproduction_that_is_told_to_stop_says_try_again():
    stop = "import os, signal, reproduce_here as here; here.end_when_asked(); "
    command = [sys.executable, "-c", stop + "os.kill(os.getpid(), signal.SIGTERM)"]
    assert subprocess.run(command, cwd=TOOLS).returncode == 75


# ---- the campaign itself: it sees what is wrong --------------------------------------------------


@pytest.fixture
def reference(tmp_path):
    """An undisturbed run that left two files, of which one was there before."""
    folder = tmp_path / "undisturbed"
    folder.mkdir()
    make_record(seed=0).write(folder)
    older, _ = meanings(folder)
    make_record(seed=1).write(folder)
    (folder / "losses.csv").write_text("iteration,loss\n1,2.0\n2,1.5\n")
    found, faults = meanings(folder)
    assert faults == []
    return Reference(folder, 1.0, 3, found, older, {})


def test_a_file_is_old_or_new_or_a_beginning(reference, tmp_path):
    folder = tmp_path / "killed"
    make_record(seed=0, wall_time_s=9.0, started_at="2026-02-01T12:00:00+00:00").write(folder)
    (folder / "losses.csv").write_text("iteration,loss\n1,2.0\n")
    before = {"record.json", "losses.csv", "iter_2.pth"}
    assert reference.lost(before, folder) == (before - {"iter_2.pth"}, [])
    make_record(seed=2).write(folder)
    (folder / "losses.csv").write_text("iteration,loss\n1,2.5\n")
    assert reference.lost(before | {"best.pth"}, folder)[1] == [
        "not the undisturbed run's: losses.csv",
        "not the undisturbed run's: record.json",
        "gone: best.pth",
    ]
    assert reference.differences(folder) == [
        "differs at the end: losses.csv",
        "differs at the end: record.json",
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("record.json", b'{"kind": "transfer"'),
        ("a.png", b"\x89PNG\r\n\x1a\n"),
        ("a.csv", b"a,b\n1,2\n3"),
        ("report.html", b"<!doctype html><html>"),
        ("figure.pdf", b"%PDF-1.4\n"),
        ("iter_3.pth", b"PK"),
        ("backbone.safetensors", b"\x08\0\0\0\0\0\0\0"),
        ("last_checkpoint", b"/somewhere/iter_9.pth"),
        ("config.py", b"model = dict("),
        ("config.py", b""),
    ],
)
def test_what_is_half_written_is_not_whole(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError):
        meaning(tmp_path / name, tmp_path)
    (fault,) = meanings(tmp_path)[1]
    assert fault.startswith(f"not whole: {name}: ")


def test_a_write_is_a_new_file_one_that_is_replaced_or_one_that_shrinks(tmp_path):
    (tmp_path / "config.py").write_text("whole")
    writes = Writes(tmp_path)
    assert writes.update() == 0 and not writes.has("config")
    (tmp_path / "config.py").write_text("")
    (tmp_path / ".record.json.1-0.tmp").touch()
    assert writes.update() == 2 and writes.has("config")
    (tmp_path / ".record.json.1-0.tmp").rename(tmp_path / "record.json")
    (tmp_path / "config.py").write_text("whole")
    (tmp_path / "20260131_120000").mkdir()
    (tmp_path / "20260131_120000/run.log").touch()
    assert writes.update() == 3 and writes.has("record") and not writes.has("log")
    (tmp_path / ".config.py.1-0.tmp").write_text("longer than before")
    (tmp_path / ".config.py.1-0.tmp").rename(tmp_path / "config.py")
    assert writes.update() == 4


def test_moments_cover_the_whole_run_and_every_write():
    dice = random.Random(0)
    moments = [draw(dice, 10.0, 4) for _ in range(400)]
    timed = [moment.seconds for moment in moments if not moment.aimed]
    assert 150 < len(timed) < 250
    assert min(timed) < 0.5 and max(timed) > 9.5
    assert {moment.write for moment in moments} == {0, 1, 2, 3, 4}
    assert not any(draw(dice, 10.0, 0).aimed for _ in range(9)), "nothing to aim at"


def test_what_outlives_its_command_is_found_and_ended(tmp_path):
    child = tmp_path / "child"
    script = f"sleep 60 & echo $! >{child}; exit 3"
    session = Session(["bash", "-c", script], {}, tmp_path / "log")
    while session.runs():
        time.sleep(0.01)
    assert session.wait(timeout_s=0.5) is None
    process = Path("/proc", child.read_text().strip(), "stat")
    while process.exists() and process.read_text().split()[2] != "Z":
        time.sleep(0.01)
    assert Session(["bash", "-c", "exit 3"], {}, tmp_path / "log2").wait(timeout_s=100) == 3


# ---- the measurement -----------------------------------------------------------------------------


def test_the_report_counts_what_was_found(tmp_path, monkeypatch, capsys):
    def found(base, kills, seed, places, each):
        kills = [
            kill_campaign.Kill(
                place=name, run=0, signal=number.name, aimed_at="a write", seconds=1.0,
                phase="writing", status=-number, whole_files=5, half_written=1, faults=faults,
            )
            for name in places
            for number, faults in ((KILL, []), (TERM, ["gone: record.json"]))
        ]  # fmt: skip
        each(kills[:1])
        return kills

    monkeypatch.setattr(measure_reliability, "campaign", found)
    file = tmp_path / "report.json"
    places = ["--places", "export", "tables"]
    measure_reliability.main(["--json", str(file), "--kills", "2", "--inputs", "0", *places])
    report = json.loads(file.read_text())
    assert report["places"]["tables"] == {
        "kills": 2, "signals": {"SIGKILL": 1, "SIGTERM": 1}, "phases": {"writing": 2},
        "statuses": {"-9": 1, "-15": 1}, "whole_files_read_after_kills": 10,
        "half_written_and_left_at_the_end": 0, "with_faults": 1,
    }  # fmt: skip
    assert [kill["faults"] for kill in report["kills"]] == [[], ["gone: record.json"]] * 2
    assert sum(line.startswith('    {"place": ') for line in file.read_text().splitlines()) == 4
    assert "| export | 2 | 1 | 2 | 1 |" in capsys.readouterr().out


def test_a_place_that_fails_undisturbed_is_named(tmp_path, monkeypatch):
    broken = kill_campaign.Place("export", lambda base: None, lambda *_: ["bash", "-c", "exit 4"])
    monkeypatch.setitem(PLACES, "export", broken)
    with pytest.raises(RuntimeError, match="ended with 4"):
        campaign(tmp_path, 1, 0, ["export"], lambda kills: None)
