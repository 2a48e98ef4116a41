"""Several processes start and end as one: one exit status, one line."""

import os
import signal
import socket
import subprocess
import sys
from signal import SIGHUP, SIGINT, SIGTERM

import pytest

from tests.helpers.places import ROOT
from tests.helpers.stand_in_run import MODULE, Started

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("to_all", [False, True])
@pytest.mark.parametrize(
    ("how", "number"), [("hangs", SIGTERM), ("hangs", SIGHUP), ("saves", SIGINT)]
)
def test_a_signal_reaches_all_processes(how, number, to_all):
    """To the launcher alone, or to all, as Ctrl-C and Slurm send it: once is not twice."""
    run = Started("2", MODULE, how)
    run.ready(2)
    os.killpg(run.process.pid, number) if to_all else run.process.send_signal(number)
    said = "" if how == "saves" else f"stopped by {number.name}; to go on: the command\n"
    assert run.end() == (75, said)


@pytest.mark.parametrize(
    ("how", "end"),
    [("well", (0, "")), ("error", (1, "error: a clean one\n")), ("one fails", (3, ""))],
)
def test_the_first_status_that_is_not_0_counts_and_an_error_is_one_line(how, end):
    assert Started("2", MODULE, how).end() == end


def test_a_process_that_is_killed_is_named():
    status, printed = Started("2", MODULE, "dies").end()
    assert status == 1 and printed.startswith("error: rank 1 on ")
    assert " was killed by SIGKILL, so the run ends. Start it again with --resume" in printed
    assert printed.count("\n") == 1


def test_they_end_with_their_launcher():
    run = Started("2", MODULE, "hangs")
    run.ready(2)
    run.process.kill()
    assert run.end()[0] == -signal.SIGKILL  # and both have let go of its output


def test_a_stopped_process_does_not_hold_up_the_end():
    """It cannot hear the signal: the launcher ends it, once the time is over."""
    code = "import pretrain.engine.start as s, sys; s.GRACE_S = 0.5; " \
           f"sys.exit(s.run_processes(2, [{MODULE!r}, 'hangs']))"  # fmt: skip
    run = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLLECTIVE_TIMEOUT": "1"},
    )  # fmt: skip
    victim = int(run.stdout.readline().split()[1])
    run.stdout.readline()
    os.kill(victim, signal.SIGSTOP)
    run.send_signal(SIGTERM)
    run.communicate(timeout=300)
    assert run.returncode == 75


def test_ranks_count_on_over_the_nodes():
    nodes = {"NNODES": "2", "MASTER_ADDR": "127.0.0.1"}
    second = Started("2", MODULE, "well", "an argument", **nodes, NODE_RANK="1")
    printed, _ = second.process.communicate(timeout=300)
    told = sorted(line.split(maxsplit=2)[2] for line in printed.splitlines())
    assert told == [f"RANK={rank} WORLD_SIZE=4 ['an argument']" for rank in (2, 3)]


def test_a_port_that_was_named_and_is_in_use_is_refused():
    with socket.create_server(("", 0)) as other:
        port = str(other.getsockname()[1])
        status, printed = Started("2", MODULE, "well", PORT=port).end()
    assert status == 2 and printed.count("\n") == 1
    assert printed.startswith(f"error: PORT is {port}, where nobody can listen on this node")
