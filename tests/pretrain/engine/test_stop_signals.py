"""Told to stop at whatever moment, a process ends with 75; several processes end as one."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from pretrain.engine.resume import read_meta
from tests.helpers.places import ROOT

TERM, INT, HUP = signal.SIGTERM, signal.SIGINT, signal.SIGHUP

RUN = r"""
import atexit, ctypes, os, signal, sys, time
from pathlib import Path
from pretrain.engine.stop_signals import STOP

how, rank = sys.argv[1], int(os.environ.get("RANK", "0"))

def hang():
    while True:  # in C, where Python's handlers do not run
        ctypes.CDLL(None).sleep(1000)

STOP.saves = how.startswith("saves")
if how == "late":
    atexit.register(time.sleep, 0.5)
    atexit.register(os.kill, os.getpid(), signal.SIGTERM)  # it comes first
os.write(1, f"ready {os.getpid()}\n".encode())
if how in ("hangs", "saves and hangs"):
    hang()
if how in ("saves", "saves, told twice"):
    while not STOP.told:
        time.sleep(0.01)
    if how == "saves, told twice":
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)
    sys.exit(75)
if how == "error":
    sys.exit("error: a clean one" if rank == 0 else 1)
if how == "one fails" and rank == 1:
    sys.exit(3)
if how == "dies" and rank == 1:
    os.kill(os.getpid(), signal.SIGKILL)
if how in ("one fails", "dies"):
    time.sleep(0.5)
    sys.exit(7)
"""


class Started:
    """``python -m pretrain.engine.start WORDS``; signals are set as a shell has them."""

    def __init__(self, folder: Path, *words: str, mask=(), ignored=(), **environment: str) -> None:
        (folder / "stand_in_run.py").write_text(RUN)

        def as_in_a_shell():
            for number in (TERM, INT, HUP):
                signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

        clean = {k: v for k, v in os.environ.items() if k not in ("RANK", "PORT", "NNODES")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pretrain.engine.start", *words],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            preexec_fn=as_in_a_shell, start_new_session=True,
            env={**clean, "PYTHONPATH": f"{ROOT}:{folder}", "GOES_ON_WITH": "the command ",
                 **environment},
        )  # fmt: skip

    def ready(self, processes: int = 1) -> list[int]:
        """The ids of the module's processes."""
        return [int(self.process.stdout.readline().split()[1]) for _ in range(processes)]

    def end(self) -> tuple[int, str]:
        """Exit status, and what was printed to stderr."""
        _, printed = self.process.communicate(timeout=300)
        return self.process.returncode, printed


MODULE = "stand_in_run"

# ---- one process ---------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [TERM, INT, HUP])
def test_it_ends_though_its_main_thread_hangs(number, tmp_path):
    run = Started(tmp_path, MODULE, "hangs")
    run.ready()
    run.process.send_signal(number)
    assert run.end() == (75, f"stopped by {number.name}; to go on: the command\n")


def test_a_signal_before_its_first_moment_counts(tmp_path):
    """The launchers hold it back: it is pending when Python starts."""
    run = Started(tmp_path, MODULE, "hangs", mask=[TERM])
    run.process.send_signal(TERM)
    assert run.end()[0] == 75
    assert "ready" not in (run.process.stdout.read() if not run.process.stdout.closed else "")


@pytest.mark.parametrize("how", ["saves", "saves, told twice"])
def test_a_training_finishes_its_iteration(how, tmp_path):
    """Also where one signal comes by two ways, from a launcher and to all."""
    run = Started(tmp_path, MODULE, how)
    run.ready()
    run.process.send_signal(INT)
    assert run.end() == (75, "")


def test_a_second_signal_ends_a_training_at_once(tmp_path):
    run = Started(tmp_path, MODULE, "saves and hangs")
    run.ready()
    while run.process.poll() is None:  # those of the first second are the first one's echo
        run.process.send_signal(INT)
        time.sleep(0.1)
    status, printed = run.end()
    assert status == 75
    assert printed == "stopped at once by a second SIGINT; to go on: the command\n"


def test_a_training_that_does_not_come_on_ends_in_time(tmp_path):
    run = Started(tmp_path, MODULE, "saves and hangs", COLLECTIVE_TIMEOUT="1")
    run.ready()
    run.process.send_signal(TERM)
    status, printed = run.end()
    assert status == 75
    assert printed == (
        "stopped by SIGTERM, whose iteration did not end within COLLECTIVE_TIMEOUT; to go on: "
        "the command\n"
    )


def test_what_has_ended_well_stays_so(tmp_path):
    """A signal while the interpreter puts itself away."""
    assert Started(tmp_path, MODULE, "late").end() == (0, "")


def test_nohup_is_honoured(tmp_path):
    run = Started(tmp_path, MODULE, "hangs", ignored=[HUP])
    run.ready()
    run.process.send_signal(HUP)
    time.sleep(0.3)
    run.process.send_signal(TERM)
    assert run.end() == (75, "stopped by SIGTERM; to go on: the command\n")


# ---- several processes ---------------------------------------------------------------------------


@pytest.mark.parametrize("to_all", [False, True])
@pytest.mark.parametrize("number", [TERM, INT, HUP])
@pytest.mark.parametrize("how", ["hangs", "saves"])
def test_a_signal_reaches_all_processes(how, number, to_all, tmp_path):
    """To the launcher alone, or to all, as Ctrl-C and Slurm send it: once is not twice."""
    run = Started(tmp_path, "2", MODULE, how)
    run.ready(2)
    os.killpg(run.process.pid, number) if to_all else run.process.send_signal(number)
    said = "" if how == "saves" else f"stopped by {number.name}; to go on: the command\n"
    assert run.end() == (75, said)


def test_a_signal_while_they_are_started(tmp_path):
    run = Started(tmp_path, "2", MODULE, "hangs", mask=[TERM])
    run.process.send_signal(TERM)
    assert run.end()[0] == 75


def test_a_clean_error_is_one_line(tmp_path):
    assert Started(tmp_path, "2", MODULE, "error").end() == (1, "error: a clean one\n")


def test_the_first_status_that_is_not_0_counts(tmp_path):
    assert Started(tmp_path, "2", MODULE, "one fails").end() == (3, "")


def test_a_process_that_is_killed_is_named(tmp_path):
    status, printed = Started(tmp_path, "2", MODULE, "dies").end()
    assert status == 1 and printed.startswith("error: rank 1 on ")
    assert " was killed by SIGKILL, so the run ends; the same command with --resume" in printed
    assert printed.count("\n") == 1


def test_they_end_with_their_launcher(tmp_path):
    run = Started(tmp_path, "2", MODULE, "hangs")
    run.ready(2)
    run.process.kill()
    assert run.end()[0] == -signal.SIGKILL  # and both have let go of its output


def test_a_stopped_process_does_not_hold_up_the_end(tmp_path):
    """It cannot hear the signal: the launcher ends it, once the time is over."""
    code = "import pretrain.engine.ranks as r, sys; r.GRACE_S = 0.5; sys.exit(r.run_ranks(2, " \
           f"[{MODULE!r}, 'hangs']))"  # fmt: skip
    (tmp_path / "stand_in_run.py").write_text(RUN)
    run = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}", "COLLECTIVE_TIMEOUT": "1"},
    )  # fmt: skip
    victim = int(run.stdout.readline().split()[1])
    run.stdout.readline()
    os.kill(victim, signal.SIGSTOP)
    run.send_signal(TERM)
    run.communicate(timeout=300)
    assert run.returncode == 75


# ---- a training ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine without GPUs")
@pytest.mark.parametrize(("processes", "number"), [("1", INT), ("2", HUP)])
def test_a_training_saves_and_says_how_it_goes_on(processes, number, coco, tmp_path):
    """Ctrl-C and a closed terminal reach every process; then what was printed is typed."""
    work_dir = tmp_path / "a run"
    command = [
        "bash", "tools/pretrain.sh", "configs/demo/pretrain_loco.py", processes, "--work-dir",
        str(work_dir), "--cfg-options", "epochs=8", "warmup_epochs=1", "global_batch_size=8",
        f"data_root={coco}/train2017", "train_dataloader.dataset.augmentation.size=32",
        "default_hooks.checkpoint.by_epoch=False",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHON": sys.executable, "REFRESH_TABLES": "0"}

    def as_in_a_shell():
        for one in (TERM, INT, HUP):
            signal.signal(one, signal.SIG_DFL)

    run = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True, preexec_fn=as_in_a_shell,
    )  # fmt: skip
    while not (work_dir / "last_checkpoint").exists() and run.poll() is None:
        time.sleep(0.05)
    os.killpg(run.pid, number)
    printed, _ = run.communicate(timeout=900)
    assert run.returncode == 75 and "Traceback" not in printed, printed
    (said,) = (line for line in printed.splitlines() if "to go on: " in line)
    assert f"stopped by {number.name} after iteration " in said
    typed = said.partition("to go on: ")[2]
    assert shlex.split(typed) == [*command, "--resume"]
    last = Path((work_dir / "last_checkpoint").read_text())
    assert f"after iteration {read_meta(last)['iter']}, which is saved" in said
    done = subprocess.run(["bash", "-c", typed], cwd=ROOT, env=environment, timeout=900)
    assert done.returncode == 0 and (work_dir / "record.json").is_file()
