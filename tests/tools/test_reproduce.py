"""tools/reproduce.py: each run once, whatever is killed; here, and through a stand-in for Slurm."""

import dataclasses
import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from results.record.run_record import RunRecord
from tests.helpers import stand_in_trainer
from tests.helpers.places import ROOT
from tests.helpers.run_records import make_record
from tests.helpers.stand_in_trainer import BROKEN, RUNS, A, B, C, run_named, trainer
from tools.reproduce import __main__ as reproduce
from tools.reproduce import slurm as reproduce_slurm
from tools.reproduce.here import execute, run_missing
from tools.reproduce.state import FAILED, LOG, Place, look

pytestmark = pytest.mark.slow

SECONDS = 0.3  # of a run that may be killed
CALL = """
from tests.helpers.stand_in_trainer import RUNS, A, trainer
from tools.reproduce.here import end_when_asked, execute, run_missing
from tools.reproduce.state import Place
end_when_asked()
"""


@pytest.fixture
def base(tmp_path):
    """Templates of the records that the stand-in leaves, and its journal."""
    record = make_record(
        kind="pretrain", protocol="pretrain", config="configs/pretrain/loco_r50.py", metrics={}
    )
    for run in (*RUNS, BROKEN, run_named("after_broken"), run_named("after_that")):
        record.write(tmp_path / "templates" / f"{run.name}.json")
    (tmp_path / "journal").touch()
    return tmp_path


@pytest.fixture
def place(base):
    return Place(str(base / "runs"), "data")


def journal(base):
    return Counter((base / "journal").read_text().splitlines())


def check_each_once(base):
    """Each run ended once, none was started twice at once or after it had ended."""
    told = journal(base)
    assert {line: n for line, n in told.items() if not line.startswith("begins")} == {
        f"ends {run.name}": 1 for run in RUNS
    }
    for run in RUNS:
        assert RunRecord.read(base / "runs" / run.name / "record.json").method == "loco"


def call(code, log=os.devnull):
    """Another process that runs planned runs."""
    with open(log, "a") as output:
        return subprocess.Popen(
            [sys.executable, "-c", CALL + code], stdout=output, stderr=output, cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True,
        )  # fmt: skip


def start(base, number=0):
    """Another call of run_missing."""
    place = Place(str(base / "runs"), "data")
    command = f"lambda run: trainer(run, {place!r}, {str(base)!r}, {SECONDS})"
    code = f"states = run_missing(RUNS, {place!r}, {command}, seconds=0.05)\n"
    return call(
        f"{code}raise SystemExit(set(states.values()) != {{'done'}})", base / f"{number}.log"
    )


# ---- here ----------------------------------------------------------------------------------------


def test_runs_what_is_missing_each_after_its_needs(base, place, capsys):
    assert [look(run, place)[0] for run in RUNS] == ["missing"] * len(RUNS)
    states = run_missing(RUNS, place, lambda run: trainer(run, place, base))
    assert states == {run.name: "done" for run in RUNS}
    check_each_once(base)
    order = [line.split()[1] for line in (base / "journal").read_text().splitlines()[::2]]
    assert order == ["a", "b", "c", "d", "e", "f"]
    said = capsys.readouterr().out
    assert "a: bash tools/pretrain.sh configs/pretrain/loco_r50.py --work-dir" in said
    run_missing(RUNS, place, lambda run: pytest.fail("a finished run was run again"))
    assert not execute(A, place, ["touch", f"{base}/again"]) and not (base / "again").exists()


def test_goes_on_after_a_failure_and_skips_what_needs_it(base, place, capsys):
    after = run_named("after_broken", BROKEN)
    plan = (BROKEN, after, run_named("after_that", after), A)
    states = run_missing(plan, place, lambda run: trainer(run, place, base))
    assert states == {
        "broken": "failed", "after_broken": "skipped", "after_that": "skipped", "a": "done",
    }  # fmt: skip
    assert journal(base)["begins broken"] == 1
    folder = place.folder(BROKEN)
    assert look(BROKEN, place)[0] == "failed" and (folder / FAILED).read_text() == "exit status 3\n"
    assert (folder / LOG).read_text() == "the disk is full\n"
    said = capsys.readouterr().out
    assert "  the disk is full" in said
    assert re.search(r"failed after \d+ s, exit status 3", said)

    # the next call tries again, and the mark goes when it ends well
    (base / "repaired").touch()
    states = run_missing(plan, place, lambda run: trainer(run, place, base))
    assert set(states.values()) == {"done"} and not (folder / FAILED).exists()


def test_a_run_that_leaves_nothing_has_failed(base, place):
    assert run_missing([A], place, lambda run: ["true"]) == {"a": "failed"}
    assert "it left no" in (place.folder(A) / FAILED).read_text()


def test_a_locked_run_counts_as_running(base, place):
    process = subprocess.Popen(trainer(A, place, base, seconds=30))
    try:
        while not journal(base):
            time.sleep(0.02)
        assert (look(A, place)[0], look(B, place)[0]) == ("running", "missing")
    finally:
        process.kill()
        process.wait()
    assert look(A, place)[0] == "missing"


def test_a_trainer_that_outlives_its_call_keeps_the_run(base, place):
    """Even before it has locked its folder: while it still starts."""
    pid = base / "pid"
    deaf = f"trap '' TERM; echo $$ >{pid}.part; mv {pid}.part {pid}; exec sleep 60"
    command = ["bash", "-c", deaf]  # else it would end with its call
    process = call(f"execute(A, {place!r}, {command})")
    while not pid.exists():
        time.sleep(0.01)
    process.kill()
    process.wait()
    try:
        assert look(A, place)[0] == "running"
    finally:
        os.kill(int(pid.read_text()), signal.SIGKILL)
    while look(A, place)[0] == "running":
        time.sleep(0.01)
    assert look(A, place)[0] == "missing"


CHAIN = """#!/usr/bin/env bash
number=$(python3 -c 'print(1)')  # as tools/launch.sh, which asks torch how many GPUs there are
exec {command}
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["while it starts", "while it trains"])
def test_a_trainer_ends_with_its_call(number, moment, base, place):
    """Through the launchers' shells; then nothing else is begun beside it."""
    shell = base / "launch.sh"
    shell.write_text(CHAIN.format(command=shlex.join(trainer(A, place, base, seconds=60))))
    chain = ["bash", "-c", f"echo $$ >{base}/pid.part; mv {base}/pid.part {base}/pid; "
             f"exec bash {shell}"]  # fmt: skip
    process = call(f"execute(A, {place!r}, {chain})")
    begun = base / "pid" if moment == "while it trains" else place.folder(A) / LOG
    while not begun.exists():  # it sleeps 30 s before it begins
        time.sleep(0.01)
    process.send_signal(number)
    process.wait(timeout=60)
    for _ in range(6000):
        if look(A, place)[0] != "running":
            break
        time.sleep(0.01)
    assert look(A, place)[0] == "missing" and not journal(base)


def test_killed_at_random_moments_each_run_is_done_once(base):
    """Alone, with its trainer or by SIGTERM; a trainer that outlives its call is waited for."""
    dice = random.Random(0)
    for number in range(9):
        before = journal(base)
        process = start(base, number)
        while process.poll() is None and journal(base) == before:
            time.sleep(0.01)
        time.sleep(dice.uniform(0, SECONDS))
        how = number % 3
        if how == 0:
            process.kill()
        elif how == 1:
            with suppress(ProcessLookupError):  # it has ended
                os.killpg(process.pid, signal.SIGKILL)
        else:
            process.terminate()
        process.wait()
    assert start(base, "last").wait(timeout=300) == 0, (base / "last.log").read_text()
    check_each_once(base)
    assert sum(n for line, n in journal(base).items() if "begins" in line) > len(RUNS)


@pytest.mark.parametrize("killed", [False, True])
def test_two_at_once_share_the_runs_and_one_does_those_of_a_killed_one(base, killed):
    first, second = start(base, 1), start(base, 2)
    if killed:
        while sum(journal(base).values()) < 3:
            time.sleep(0.01)
        os.killpg(first.pid, signal.SIGKILL)
    assert second.wait(timeout=300) == 0
    assert first.wait(timeout=300) == (-signal.SIGKILL if killed else 0)
    check_each_once(base)
    begun = sum(journal(base).values())
    assert killed or begun == 2 * len(RUNS), "nothing was begun in vain"


# ---- the command ---------------------------------------------------------------------------------


def test_the_plan_says_how_far_everything_is(tmp_path, capsys):
    runs = tmp_path / "runs"
    record = make_record(
        kind="pretrain", protocol="pretrain", config="configs/pretrain/loco_r50.py",
        pretrain_epochs=800, metrics={}, wall_time_s=5400, world_size=8,
        hardware={"gpus": ["a GPU"] * 8},
    )  # fmt: skip
    record.write(runs / "loco_r50/record.json")
    (runs / "gim_r50").mkdir()
    (runs / "gim_r50" / FAILED).write_text("exit status 1\n")
    assert reproduce.main(["table1", "--plan", "--runs", str(runs)]) == 0
    lines = {line.split()[1]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["loco_r50"].startswith("done ") and "took 12.00" in lines["loco_r50"]  # 1.5 x 8
    assert lines["gim_r50"].startswith("failed ")
    probe = lines["linear_loco_r50"]
    assert probe.startswith("missing ") and "loco_r50; configs/linear/loco_r50.py" in probe
    assert lines["runs:"] == "12 runs: 1 done, 1 failed, 10 missing"


def test_folders_are_relative_to_the_callers(tmp_path, capsys, monkeypatch):
    (tmp_path / "out/gim_r50").mkdir(parents=True)
    (tmp_path / "out/gim_r50" / FAILED).touch()
    monkeypatch.chdir(tmp_path)
    assert reproduce.main(["table1", "--plan", "--runs", "out", "--data", "/data"]) == 0
    assert "failed    gim_r50 " in capsys.readouterr().out
    assert Path.cwd() == ROOT
    assert reproduce.from_root("out") == "out" and reproduce.from_root("/data") == "/data"


def test_a_folder_with_the_record_of_another_run_is_said_so(tmp_path, capsys):
    make_record(kind="linear").write(tmp_path / "loco_r50/record.json")
    assert reproduce.main(["table1", "--runs", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    words = "is the record of another run: kind linear instead of pretrain, pretrain_epochs 100 "
    assert words + "instead of 800, config" in told and "move its folder away, or name " in told


NEWER = '_version": 9'
DAMAGED = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:100]),
    "empty": lambda path: path.write_bytes(b""),
    "pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "folder": lambda path: (path.unlink(), path.mkdir()),
    "newer": lambda path: path.write_text(re.sub(r'_version": \d', NEWER, path.read_text())),
}


@pytest.mark.parametrize("how", [*DAMAGED, "other run"])
def test_a_run_that_needs_a_hand_stops_no_other(how, base, place, capsys, slurm):
    """The plan, a call and Slurm go on with the rest, and each says how to repair it."""
    plan = (A, B, C, run_named("f"))
    record = RunRecord.read(base / "templates/a.json")
    path = dataclasses.replace(record, method="gim").write(place.folder(A))
    if how != "other run":
        DAMAGED[how](path)
    state_now = how if how == "other run" else "damaged"
    reproduce.print_plan(plan, place)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith(f"{state_now:9} a ") and f"1 {state_now}" in lines[5]
    (told,) = [line for line in lines if line.startswith("a: ")]
    repair = "move its folder away" if how == "other run" else f"mv {path} {path}.damaged"
    assert str(path) in told and repair in told

    outcomes = reproduce_slurm.submit_missing(plan, place)
    assert repair in outcomes["a"] and outcomes["c"] == "skipped, it needs a"
    assert outcomes["b"].startswith("submitted") and outcomes["f"].startswith("submitted")

    states = run_missing(plan, place, lambda run: trainer(run, place, base))
    assert states == {"a": state_now, "b": "done", "c": "skipped", "f": "done"}
    assert "again a" not in journal(base)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["table9"], "no plan for table9 at scale paper; there are plans for: table1, table2,"),
        (["table4", "--scale", "demo"], "no plan for table4 at scale demo"),
        (["table1", "--slurm"], "no sbatch on this machine; without Slurm take --run"),
    ],
)
def test_says_what_is_wrong(arguments, words, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert reproduce.main([*arguments, "--runs", str(tmp_path / "runs")]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


# ---- Slurm ---------------------------------------------------------------------------------------

SBATCH = """#!{python}
import json, os, sys
from pathlib import Path
queue = Path(os.environ["QUEUE"])
job = str(100 + len(list(queue.glob("*.json"))))
(queue / f"{{job}}.json").write_text(json.dumps(sys.argv[1:]))
print(job + ";cluster")
"""
SQUEUE = """#!{python}
import os, sys
from pathlib import Path
job = sys.argv[-1].partition("=")[2]
if not (Path(os.environ["QUEUE"]) / f"{{job}}.json").exists():
    sys.exit("slurm_load_jobs error: Invalid job id specified")
print(job)
"""
SRUN = """#!{python}
import os, sys
given = sys.argv[1:]
python = given.index({python!r})
assert given[python + 1] == "-m" and given[python + 2] == "pretrain.train", given
command = [{python!r}, {trainer!r}, os.environ["BASE"], "0"]
os.execv(command[0], [*command, *given[python + 3:]])
"""


@pytest.fixture
def slurm(base, monkeypatch):
    """Stand-ins in PATH; what was submitted lies in a folder until it is carried out."""
    folder, queue = base / "bin", base / "queue"
    folder.mkdir()
    queue.mkdir()
    for name, text in (("sbatch", SBATCH), ("squeue", SQUEUE), ("srun", SRUN)):
        (folder / name).write_text(
            text.format(python=sys.executable, trainer=stand_in_trainer.__file__)
        )
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("QUEUE", str(queue))
    monkeypatch.setenv("BASE", str(base))
    return queue


def carry_out(queue):
    """Run the submitted jobs as Slurm would: after what they depend on, else not at all."""
    good = set()
    submitted = {path.stem: json.loads(path.read_text()) for path in sorted(queue.iterdir())}
    for job, arguments in submitted.items():
        options = dict(a.lstrip("-").split("=", 1) for a in arguments if "=" in a)
        kind, _, after = options.get("dependency", "afterok:").partition(":")
        assert kind == "afterok"
        if set(filter(None, after.split(":"))) <= good:
            command = ["bash", "-c", options["wrap"]]
            if subprocess.run(command, cwd=options["chdir"]).returncode == 0:
                good.add(job)
        (queue / f"{job}.json").unlink()
    return submitted


def test_slurm_gets_every_missing_run_after_its_needs(base, place, slurm, monkeypatch):
    monkeypatch.setenv("GPUS", "16")
    monkeypatch.setenv("SBATCH_ARGS", "--partition=gpu --time=24:00:00")
    outcomes = reproduce_slurm.submit_missing(RUNS, place)
    assert outcomes == {run.name: f"submitted as {100 + number}" for number, run in enumerate(RUNS)}
    again = reproduce_slurm.submit_missing(RUNS, place)
    assert again["c"] == "queued as 102" and len(list(slurm.iterdir())) == len(RUNS)

    submitted = carry_out(slurm)
    check_each_once(base)
    arguments = submitted["103"]
    assert {
        "--parsable", "--job-name=d", "--dependency=afterok:100:101", "--kill-on-invalid-dep=yes",
        "--ntasks=16", "--ntasks-per-node=8", "--gres=gpu:8", "--cpus-per-task=8",
        "--partition=gpu", "--time=24:00:00", f"--chdir={ROOT}",
        f"--output={base}/runs/d/reproduce.log",
    } <= set(arguments)  # fmt: skip
    wrapped = arguments[-1].removeprefix("--wrap=")
    assert wrapped == (
        f"srun --cpus-per-task=8 --kill-on-bad-exit=1 {sys.executable} -m pretrain.train "
        f"configs/pretrain/loco_r50.py --launcher slurm --work-dir {base}/runs/d --resume "
        "--cfg-options epochs=1"
    )
    assert not any(argument.startswith("--dependency") for argument in submitted["100"])
    assert set(reproduce_slurm.submit_missing(RUNS, place).values()) == {"done"}
    assert list(slurm.iterdir()) == []


def test_slurm_submits_again_what_failed_and_waits_only_for_what_is_queued(base, place, slurm):
    after = run_named("after_broken", BROKEN, A)
    plan = (A, BROKEN, after)
    reproduce_slurm.submit_missing(plan, place)
    carry_out(slurm)
    assert [reproduce.shown_state(run, place) for run in plan] == ["done", "failed", "failed"]
    outcomes = reproduce_slurm.submit_missing(plan, place)
    assert outcomes["a"] == "done" and outcomes["after_broken"].startswith("submitted as ")
    assert [reproduce.shown_state(run, place) for run in plan] == ["done", "queued", "queued"]
    job = outcomes["broken"].split()[-1]
    file = slurm / f"{outcomes['after_broken'].split()[-1]}.json"
    assert f"--dependency=afterok:{job}" in json.loads(file.read_text())


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("GPUS", "many", "GPUS is 'many'; expected a number from 1"),
        ("GPUS", "12", "GPUS_PER_NODE is 8, GPUS is 12; expected one that divides it"),
        ("QUEUE", "/nowhere", "sbatch did not take a: "),
    ],
)
def test_slurm_says_what_is_wrong(variable, value, words, base, place, slurm, monkeypatch):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=words):
        reproduce_slurm.submit_missing(RUNS, place)
    assert not (place.folder(A) / reproduce_slurm.JOB).exists()
