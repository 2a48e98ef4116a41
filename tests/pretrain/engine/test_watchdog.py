"""A process that dies, is stopped or hangs ends the others in time, and is named: real signals."""

import os
import re
import signal
import sys
import threading
import time
from typing import NamedTuple

import pytest
import torch
import torch.distributed as dist

from pretrain.engine.watchdog import PATIENCE, Sign, Watchdog, hanging
from tests.helpers.two_processes import end, start_two, wait_for

pytestmark = pytest.mark.slow

TIMEOUT_S = 4.0
MARGIN_S = 40.0  # a busy machine; a collective that nobody ends would wait for 120 s

# ---- two processes that only talk; all cases at the same time ------------------------------------


def sleep_in_a_loader():
    time.sleep(600)


def train(rank, trouble, timeout_s, iterations=10**6, slow=False):
    """Iterations of a collective each, until ``trouble(rank, iteration)``."""
    watchdog = Watchdog(rank, 2, timeout_s)
    watchdog.start()
    try:
        for iteration in range(1, iterations + 1):
            watchdog.begin(f"iteration {iteration}", slow=slow)
            dist.all_reduce(torch.ones(1))
            watchdog.begin(f"what follows iteration {iteration}", slow=slow)
            if iteration == 3:
                print("under way")
            time.sleep(0.01)
            trouble(rank, iteration)
    except RuntimeError:
        print("missing:", watchdog.missing())
        sys.exit(3)
    except SystemExit as stop:
        watchdog.end_all(stop.code)
        raise
    watchdog.stop()


def no_trouble(rank, iteration):
    pass


def hang(rank, iteration):
    """It lives, and its thread answers; only its main thread hangs."""
    if (rank, iteration) == (1, 5):
        sleep_in_a_loader()


def work_long_alone(rank, iteration):
    """A validation on one process: more than PATIENCE times 1 s; then 2 s of waiting."""
    if iteration == 1:
        time.sleep([5.5, 7.5][rank])


def work_long(rank, iteration):
    """2 s, of this process's own time."""
    for _ in range(200 if iteration == 4 else 0):
        time.sleep(0.01)


def save_and_stop(rank, iteration):
    if (rank, iteration) == (0, 5):
        sys.exit(75)


class Outcome(NamedTuple):
    statuses: dict[int, int]  # of those that were not sent a signal
    logs: list[str]
    seconds: float  # from the trouble to the end of the others


BOTH = None
CASES = {  # trouble, which of them is sent what, and how they train
    "stopped": (no_trouble, (1, signal.SIGSTOP), {}),
    "stopped while all start": (no_trouble, (1, signal.SIGSTOP), {"slow": True}),
    "stopped where they meet": (no_trouble, (0, signal.SIGSTOP), {}),
    "killed": (no_trouble, (1, signal.SIGKILL), {}),
    "suspended": (work_long, (BOTH, signal.SIGSTOP), {"iterations": 4}),
    "hangs": (hang, None, {}),
    "works alone": (work_long_alone, None, {"slow": True, "timeout_s": 1, "iterations": 2}),
    "told to stop": (save_and_stop, None, {"timeout_s": 200}),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    found, started = {}, {}

    def follow(case, folder, pids, signalled):
        logs = [folder / f"rank{rank}.log" for rank in (0, 1)]
        if signalled:
            while not all(log.exists() and "under way" in log.read_text() for log in logs):
                time.sleep(0.05)
            time.sleep(TIMEOUT_S / 8)  # a few beats: each has told its host
            for pid in pids if signalled[0] is BOTH else [pids[signalled[0]]]:
                os.kill(pid, signalled[1])
            if signalled[0] is BOTH:
                time.sleep(TIMEOUT_S + 1)
                for pid in pids:
                    os.kill(pid, signal.SIGCONT)
        begun = time.monotonic()
        others = [rank for rank in (0, 1) if not signalled or rank != signalled[0]]
        statuses = {rank: wait_for(pids[rank]) for rank in others}
        seconds = time.monotonic() - begun
        found[case] = Outcome(statuses, [log.read_text() for log in logs], seconds)

    try:
        for case, (trouble, signalled, how) in CASES.items():
            folder = tmp_path_factory.mktemp("case")
            how = {"timeout_s": TIMEOUT_S} | how
            pids = start_two(lambda rank, t=trouble, h=how: train(rank, t, **h), folder)
            started[case] = (case, folder, pids, signalled)
        threads = [threading.Thread(target=follow, args=case) for case in started.values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        for _, _, pids, _ in started.values():
            end(pids)
    return found


@pytest.mark.parametrize("case", ["stopped", "stopped while all start"])
def test_a_stopped_process_is_named_in_time(case, outcomes):
    """Others have more patience at the start, but only with one that answers."""
    statuses, logs, seconds = outcomes[case]
    assert statuses == {0: 1} and TIMEOUT_S / 2 < seconds < TIMEOUT_S + MARGIN_S
    assert re.search(r"error: no progress in 4 s: no answer from rank 1 on \S+: it died", logs[0])
    assert "COLLECTIVE_TIMEOUT=SECONDS (now 4)" in logs[0] and "--resume" in logs[0]
    assert case == "stopped" or seconds < 0.9 * PATIENCE * TIMEOUT_S


def test_where_the_stopped_one_holds_the_meeting_point(outcomes):
    """As rank 0 does where no torchrun does: it cannot be asked who is missing."""
    statuses, logs, seconds = outcomes["stopped where they meet"]
    assert statuses == {1: 1} and seconds < TIMEOUT_S + MARGIN_S
    assert re.search(r"127\.0\.0\.1:\d+, where the processes meet \(rank 0's node\)", logs[1])


def test_a_killed_process_is_named(outcomes):
    statuses, logs, seconds = outcomes["killed"]
    assert statuses == {0: 3} and seconds < TIMEOUT_S + MARGIN_S
    assert re.search(r"missing: no answer from rank 1 on \S+: it died", logs[0])


def test_a_process_that_hangs_is_named_once_and_with_its_place(outcomes):
    statuses, logs, seconds = outcomes["hangs"]
    assert statuses == {0: 1, 1: 1} and seconds < TIMEOUT_S + MARGIN_S
    (said,) = (line for log in logs for line in log.splitlines() if line.startswith("error: "))
    file = r"tests/pretrain/engine/test_watchdog\.py"
    assert re.search(rf"rank 1 on \S+ is in what follows iteration 5, at {file}:\d+ "
                     r"\(sleep_in_a_loader\); the others wait in iteration 6, at "
                     rf"{file}:\d+ \(train\)", said)  # fmt: skip


def test_what_is_slow_but_alone_is_no_hang(outcomes):
    statuses, logs, _ = outcomes["works alone"]
    assert statuses == {0: 0, 1: 0} and PATIENCE < 7, logs


def test_a_job_that_was_suspended_goes_on(outcomes):
    """As by ``scontrol suspend``, for longer than the stated time."""
    statuses, logs, _ = outcomes["suspended"]
    assert statuses == {0: 0, 1: 0}, logs


def test_all_end_with_the_status_of_the_one_that_was_told_to_stop(outcomes):
    """It has saved, and asks to be started again; so srun and torchrun must not see a fault."""
    statuses, logs, seconds = outcomes["told to stop"]
    assert statuses == {0: 75, 1: 75} and seconds < 100, logs


# ---- who is to blame -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signs", "names"),
    [
        ([(7, True), (6, False), (7, True)], ["1"]),  # lags behind
        ([(7, True), (6, False), (6, True)], ["1", "2"]),
        ([(7, True), (7, True), (7, False)], ["2"]),  # as far as the others, but does not wait
        ([(7, True), (7, True)], ["0", "1"]),  # in two different collectives
        ([(7, False), (7, False)], ["0", "1"]),
    ],
)
def test_who_hangs(signs, names):
    told = hanging(
        {
            rank: Sign(1, step, f"step {step}", "a.py:1 (f)", waiting, f"host{rank}")
            for rank, (step, waiting) in enumerate(signs)
        }
    )
    assert re.findall(r"rank (\d) on host", told) == names


# ---- one process ---------------------------------------------------------------------------------


def test_a_hang_of_one_process_is_named_with_its_place(tmp_path):
    def work(rank):
        watchdog = Watchdog(0, 1, timeout_s=1)
        watchdog.start()
        time.sleep(2)  # the start may take as long as it likes
        watchdog.begin("iteration 7")
        sleep_in_a_loader()

    pids = start_two(work, tmp_path, meet=False)
    assert [wait_for(pid) for pid in pids] == [1, 1]
    (line,) = (tmp_path / "rank0.log").read_text().splitlines()
    assert re.match(
        r"error: no progress in 1 s: the process is in iteration 7, at \S*test_watchdog\.py:\d+ "
        r"\(sleep_in_a_loader\)\. The run ends",
        line,
    )
