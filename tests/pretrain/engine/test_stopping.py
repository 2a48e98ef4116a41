"""Told to stop at whatever moment, a process ends with 75."""

import signal
import subprocess
import sys
import time
from signal import SIGHUP, SIGINT, SIGTERM

import pytest

from pretrain.engine.stopping import collective_timeout_s
from results.record.files import take_lock
from tests.helpers.places import ROOT
from tests.helpers.stand_in_run import MODULE, Started

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("number", [SIGTERM, SIGINT, SIGHUP])
def test_it_ends_though_its_main_thread_hangs(number):
    run = Started(MODULE, "hangs")
    run.ready()
    run.process.send_signal(number)
    assert run.end() == (75, f"stopped by {number.name}; to go on: the command\n")


@pytest.mark.parametrize("processes", [[], ["2"]])
def test_a_signal_before_its_first_moment_counts(processes):
    """The launchers hold it back: it is pending when Python starts."""
    run = Started(*processes, MODULE, "hangs", mask=[SIGTERM])
    run.process.send_signal(SIGTERM)
    assert run.end()[0] == 75


@pytest.mark.parametrize("how", ["saves", "saves, told twice"])
def test_a_training_finishes_its_iteration(how):
    """Also where one signal comes by two ways, from a launcher and to all."""
    run = Started(MODULE, how)
    run.ready()
    run.process.send_signal(SIGINT)
    assert run.end() == (75, "")


def test_a_second_signal_ends_a_training_at_once():
    run = Started(MODULE, "saves and hangs")
    run.ready()
    while run.process.poll() is None:  # those of the first second are the first one's echo
        run.process.send_signal(SIGINT)
        time.sleep(0.1)
    assert run.end() == (75, "stopped at once by a second SIGINT; to go on: the command\n")


def test_a_training_whose_iteration_does_not_end_is_ended_in_time():
    run = Started(MODULE, "saves and hangs", COLLECTIVE_TIMEOUT="1")
    run.ready()
    run.process.send_signal(SIGTERM)
    status, printed = run.end()
    assert status == 75 and "did not end within COLLECTIVE_TIMEOUT; to go on: the" in printed


def test_nohup_is_honoured():
    run = Started(MODULE, "hangs", ignored=[SIGHUP])
    run.ready()
    run.process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    run.process.send_signal(SIGTERM)
    assert run.end() == (75, "stopped by SIGTERM; to go on: the command\n")


def test_no_worker_outlives_a_killed_run(tmp_path):
    """A worker that is stuck would keep the lock on the work folder."""
    lock = tmp_path / ".lock"
    code = f"""
import os, signal, time
from pathlib import Path
from pretrain.engine.stopping import end_with_the_parent
from results.record.files import take_lock
lock = take_lock(Path({str(lock)!r}))
os.register_at_fork(after_in_child=end_with_the_parent())
if os.fork() == 0:
    os.fork()
    time.sleep(600)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=300, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr  # and the pipes are closed
    take_lock(lock).close()


@pytest.mark.parametrize("text", ["", "ten", "0", "-1", "inf", "nan"])
def test_a_timeout_that_is_none(text, monkeypatch):
    monkeypatch.setenv("COLLECTIVE_TIMEOUT", text)
    with pytest.raises(ValueError, match=f"COLLECTIVE_TIMEOUT is '{text}'; expected a number of"):
        collective_timeout_s()
