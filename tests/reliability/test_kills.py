"""Killed and started again, every command ends as if nobody had: some of the campaign's kills.

``python -m tests.reliability`` has many more, at random moments.
"""

import json
import random
import signal
import time
from pathlib import Path

import pytest

from tests.helpers.run_records import make_record
from tests.reliability import __main__ as command
from tests.reliability import kills
from tests.reliability.files import meanings
from tests.reliability.kills import Kill, Reference, draw, one_run, undisturbed
from tests.reliability.places import PLACES
from tests.reliability.session import Moment, Session, Writes

pytestmark = pytest.mark.slow

KILL, TERM, STOP = signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tmp_path_factory.mktemp("kills")


def survives(base, *shots):
    """Every kill is followed by the next start, the last one by the end. Returns the statuses."""
    shots = [(PLACES[name], moment, number) for name, moment, number in shots]
    reference = undisturbed(shots[0][0], base, forked=True)
    found = one_run(base, 0, reference, shots, forked=True)
    assert [kill.faults for kill in found] == [[]] * len(shots)
    return [kill.status for kill in found]


def test_a_pretraining_is_stopped_killed_loses_its_pointer_and_a_worker(base):
    statuses = survives(
        base,
        ("pretraining", Moment(name="iter_2.pth"), TERM),
        ("a missing pointer", Moment(name="iter_4.pth"), KILL),
        ("a loader worker", Moment(), KILL),
        ("a loader worker", Moment(name="iter_6.pth"), STOP),
        ("a missing pointer", Moment(name="backbone"), KILL),  # it has no iteration left
    )
    assert statuses[:3] == [75, -KILL, 1]


def test_two_processes_are_told_to_stop_as_they_start_and_one_never_comes(base):
    early, late, lost = survives(
        base,
        ("start-up", Moment(0.3), TERM),
        ("start-up", Moment(2.0), TERM),
        ("a process that never comes", Moment(), STOP),
    )
    assert {early, late} <= {75, -TERM} and lost == 1  # the shell's first moment is not ours


def test_a_transfer_and_its_evaluation_are_killed(base):
    survives(base, ("transfer", Moment(name="iter_8.pth"), KILL))
    survives(base, ("evaluation", Moment(name="000.png"), KILL))


@pytest.mark.parametrize(
    ("name", "moment", "number"),
    [
        ("export", Moment(write=1), KILL),
        ("preparation", Moment(write=1), KILL),
        pytest.param("tables", Moment(write=9), KILL, marks=pytest.mark.slow),
        pytest.param("reproduce", Moment(name="record.json"), TERM, marks=pytest.mark.slow),
    ],
)
def test_a_command_is_killed_as_it_writes(base, name, moment, number):
    survives(base, (name, moment, number))


# ---- the harness sees what is wrong --------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "status", "right"),
    [
        ("error: rank 1 was killed\n", 1, True), ("all done\n", 0, True), ("", 1, False),
        ("error: a\nerror: b\n", 1, False), ("error: a\n", 0, False),
        ("Traceback\nerror: a\n", 1, False), ("error: a\n", -9, False),
    ],
)  # fmt: skip
def test_a_command_that_lost_a_process_says_so_in_one_line(output, status, right):
    assert (kills.untold(output, status) == []) == right


def test_a_file_is_old_or_new_or_a_beginning(tmp_path):
    folder = tmp_path / "undisturbed"
    make_record(seed=0).write(folder)
    older, _ = meanings(folder)
    make_record(seed=1).write(folder)
    (folder / "losses.csv").write_text("iteration,loss\n1,2.0\n2,1.5\n")
    reference = Reference(folder, 1.0, 4, meanings(folder)[0], older)

    killed = tmp_path / "killed"
    make_record(seed=0, wall_time_s=9.0, started_at="2026-02-01T12:00:00+00:00").write(killed)
    (killed / "losses.csv").write_text("iteration,loss\n1,2.0\n")
    before = {"record.json", "losses.csv", "iter_2.pth"}
    assert reference.lost(before, killed) == []
    make_record(seed=2).write(killed)
    (killed / "losses.csv").write_text("iteration,loss\n1,2.5\n")
    assert reference.lost(before | {"best.pth"}, killed) == [
        "not the undisturbed run's: losses.csv", "not the undisturbed run's: record.json",
        "gone: best.pth",
    ]  # fmt: skip
    assert reference.differences(killed) == [
        "differs at the end: losses.csv", "differs at the end: record.json",
    ]  # fmt: skip

    dice = random.Random(0)
    moments = [draw(dice, reference) for _ in range(400)]
    timed = [moment.seconds for moment in moments if not moment.aimed]
    assert 150 < len(timed) < 250 and min(timed) < 0.05 and max(timed) > 0.95
    assert {moment.write for moment in moments} == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("record.json", b'{"kind": "transfer"'), ("a.png", b"\x89PNG\r\n\x1a\n"),
        ("a.csv", b"a,b\n1,2\n3"), ("report.html", b"<!doctype html><html>"),
        ("figure.pdf", b"%PDF-1.4\n"), ("iter_3.pth", b"PK"), ("config.py", b"model = dict("),
        ("backbone.safetensors", b"\x08\0\0\0\0\0\0\0"), ("config.py", b""),
        ("last_checkpoint", b"/somewhere/iter_9.pth"),
    ],
)  # fmt: skip
def test_what_is_half_written_is_not_whole(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    found, (fault,) = meanings(tmp_path)
    assert not found and fault.startswith(f"not whole: {name}: ")


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


def test_what_outlives_its_command_is_found_and_ended(tmp_path, monkeypatch):
    child = tmp_path / "child"
    script = f"sleep 60 & echo $! >{child}; exit 3"
    monkeypatch.setattr("tests.reliability.session.as_typed", lambda *words, processes: words[0])
    session = Session([[script]], {}, tmp_path / "log")
    while session.runs():
        time.sleep(0.01)
    assert session.wait(timeout_s=0.5) is None
    process = Path("/proc", child.read_text().strip(), "stat")
    while process.exists() and process.read_text().split()[2] != "Z":
        time.sleep(0.01)
    assert Session([["exit 3"]], {}, tmp_path / "log2").wait(timeout_s=100) == 3


def test_the_report_counts_what_was_found(tmp_path, monkeypatch):
    def found(base, count, seed, places, each):
        of = [
            Kill(name, 0, number.name, 1.0, "writing", -number, faults)
            for name in places
            for number, faults in ((KILL, []), (TERM, ["gone: record.json"]))
        ]
        each(of)
        return of

    monkeypatch.setattr(command, "campaign", found)
    places = ["--places", "export", "tables", "--kills", "2", "--inputs", "0"]
    assert command.main(["--json", str(tmp_path / "report.json"), *places]) == 1
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["places"]["tables"] == {
        "kills": 2, "signals": {"SIGKILL": 1, "SIGTERM": 1}, "phases": {"writing": 2},
        "statuses": {"-9": 1, "-15": 1}, "with_faults": 1,
    }  # fmt: skip
    assert [kill["faults"] for kill in report["kills"]] == [[], ["gone: record.json"]] * 2
