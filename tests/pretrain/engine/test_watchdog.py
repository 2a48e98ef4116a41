"""A process that dies, is stopped or hangs ends the others in time, and is named: real signals."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from pretrain.engine.resume import read_meta
from pretrain.engine.timeout import collective_timeout_s
from pretrain.engine.watchdog import PATIENCE, Sign, Watchdog
from tests.helpers.places import ROOT
from tests.helpers.two_processes import end, start_two, wait_for
from tests.pretrain.engine.test_launch_commands import OPTIONS, free_port, start

TIMEOUT_S = 4.0
MARGIN_S = 40.0  # a busy machine; a collective that nobody ends would wait for 120 s

# ---- two processes that only talk ----------------------------------------------------------------


def sleep_in_a_loader():
    time.sleep(600)


def train(rank, trouble, iterations=10**6, slow=False):
    """Iterations of a collective each, until ``trouble(rank, iteration)``."""
    watchdog = Watchdog.of_this_process()
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


def run_into(trouble, folder, victim=None, number=None, timeout_s=TIMEOUT_S, **how):
    """Statuses and logs by rank, and the seconds from the trouble to the end of the others."""
    pids = start_two(
        lambda rank: train(rank, trouble, **how), folder, COLLECTIVE_TIMEOUT=str(timeout_s)
    )
    try:
        if victim is not None:
            while not all("under way" in log for log in logs_in(folder)):
                time.sleep(0.05)
            time.sleep(timeout_s / 2)  # ten beats: each has told of itself
            os.kill(pids[victim], number)
        begun = time.monotonic()
        statuses = {rank: wait_for(pids[rank]) for rank in (0, 1) if rank != victim}
        seconds = time.monotonic() - begun
    finally:
        end(pids)
    return statuses, logs_in(folder), seconds


def logs_in(folder):
    logs = [folder / f"rank{rank}.log" for rank in (0, 1)]
    return [log.read_text() if log.exists() else "" for log in logs]


def no_trouble(rank, iteration):
    pass


def test_a_stopped_process_is_named_in_time(tmp_path):
    statuses, logs, seconds = run_into(no_trouble, tmp_path, 1, signal.SIGSTOP)
    assert statuses == {0: 1} and TIMEOUT_S / 2 < seconds < TIMEOUT_S + MARGIN_S
    assert re.search(r"error: no progress in 4 s: rank 1 on \S+ gives no sign of life", logs[0])
    assert "set COLLECTIVE_TIMEOUT=SECONDS (now 4)" in logs[0] and "--resume" in logs[0]


def test_a_process_stopped_during_the_start_is_named_as_soon(tmp_path):
    """Others have more patience there, but only with one that gives signs of life."""
    statuses, logs, seconds = run_into(no_trouble, tmp_path, 1, signal.SIGSTOP, slow=True)
    assert statuses == {0: 1} and seconds < 0.9 * PATIENCE * TIMEOUT_S
    assert re.search(r"error: no progress in 4 s: rank 1 on \S+ gives no sign of life", logs[0])


def test_where_the_stopped_one_holds_the_meeting_point(tmp_path):
    """As rank 0 does where no torchrun does: it cannot be asked who is missing."""
    statuses, logs, seconds = run_into(no_trouble, tmp_path, 0, signal.SIGSTOP)
    assert statuses == {1: 1} and seconds < TIMEOUT_S + MARGIN_S
    assert re.search(r"127\.0\.0\.1:\d+, where the processes meet \(rank 0's node\)", logs[1])


def test_a_killed_process_is_named(tmp_path):
    statuses, logs, seconds = run_into(no_trouble, tmp_path, 1, signal.SIGKILL)
    assert statuses == {0: 3} and seconds < TIMEOUT_S + MARGIN_S
    assert re.search(r"missing: rank 1 on \S+ gives no sign of life", logs[0])


def test_a_process_that_never_comes_is_named_with_its_place(tmp_path):
    """It lives, and its thread tells of it; only its main thread hangs."""

    def hang(rank, iteration):
        if (rank, iteration) == (1, 5):
            sleep_in_a_loader()

    statuses, logs, seconds = run_into(hang, tmp_path)
    assert statuses == {0: 1, 1: 1} and seconds < TIMEOUT_S + MARGIN_S
    said = next(line for log in logs for line in log.splitlines() if line.startswith("error: "))
    place = r"tests/test_watchdog\.py:\d+ \(sleep_in_a_loader\)"
    assert re.search(rf"rank 1 on \S+ is in what follows iteration 5, at {place}; the others wait "
                     r"in iteration 6, at tests/test_watchdog\.py:\d+ \(train\)", said)  # fmt: skip


def test_what_is_slow_but_alone_is_no_hang(tmp_path):
    """A validation on one process: only who waits counts the time, PATIENCE times as much."""

    def work(rank, iteration):
        if iteration == 1:
            time.sleep([5.5, 7.5][rank])  # more than PATIENCE times 1 s; then 2 s of waiting

    statuses, logs, _ = run_into(work, tmp_path, timeout_s=1, iterations=2, slow=True)
    assert statuses == {0: 0, 1: 0} and PATIENCE < 7, logs


def test_all_end_with_the_status_of_the_one_that_was_told_to_stop(tmp_path):
    """It has saved, and asks to be started again; so srun and torchrun must not see a fault."""

    def stop(rank, iteration):
        if (rank, iteration) == (0, 5):
            sys.exit(75)

    statuses, logs, seconds = run_into(stop, tmp_path, timeout_s=200)
    assert statuses == {0: 75, 1: 75} and seconds < 100, logs


# ---- who is to blame -----------------------------------------------------------------------------


def blamed(*signs):
    watchdog = Watchdog(None, 0, len(signs), 600)  # type: ignore[arg-type]
    now = time.monotonic()
    watchdog._seen = {
        rank: (Sign(1, step, f"step {step}", "a.py:1 (f)", waiting, f"host{rank}"), now)
        for rank, (step, waiting) in enumerate(signs)
    }
    return re.findall(r"rank (\d) on host", watchdog._hanging())


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
    assert blamed(*signs) == names


@pytest.mark.parametrize("text", ["", "ten", "0", "-1", "inf", "nan"])
def test_a_timeout_that_is_none(text, monkeypatch):
    monkeypatch.setenv("COLLECTIVE_TIMEOUT", text)
    with pytest.raises(ValueError, match=f"COLLECTIVE_TIMEOUT is '{text}'; expected a number of"):
        collective_timeout_s()


# ---- one process ---------------------------------------------------------------------------------

ALONE = """
import os, signal, sys, time
import torch
from torch.utils.data import DataLoader
from pretrain.engine.loaders import leave_signals_to_the_run
from pretrain.engine.processes import join_processes

class Numbers(torch.utils.data.Dataset):
    def __len__(self):
        return 10**6
    def __getitem__(self, index):
        return torch.zeros(1)

def hang():
    while True:
        time.sleep(1)

if __name__ == "__main__":
    watchdog = join_processes("none")
    if sys.argv[1] == "hangs":
        watchdog.begin("iteration 7")
        hang()
    watchdog.begin("validation", slow=True)
    loader = DataLoader(Numbers(), num_workers=2, worker_init_fn=leave_signals_to_the_run)
    batches = iter(loader)
    next(batches)
    os.kill(batches._workers[1].pid, signal.SIGSTOP)
    print("worker", batches._workers[1].pid, flush=True)
    for _ in batches:
        pass
"""


def alone(how, tmp_path):
    script = tmp_path / "alone.py"
    script.write_text(ALONE)
    done = subprocess.run(
        [sys.executable, str(script), how], cwd=ROOT, capture_output=True, text=True, timeout=100,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLLECTIVE_TIMEOUT": "1"},
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    return line, done.stdout


def test_a_stopped_loader_worker_ends_a_run_of_one_process(tmp_path):
    """In a validation too, which may take as long as it likes."""
    line, printed = alone("stopped", tmp_path)
    pid = printed.split()[1]
    assert line.startswith(
        f"error: no progress in 1 s: loader worker (process {pid}) is stopped. The run ends"
    )


def test_a_hang_of_one_process_is_named_with_its_place(tmp_path):
    line, _ = alone("hangs", tmp_path)
    assert re.match(
        r"error: no progress in 1 s: the process is in iteration 7, at \S*alone\.py:\d+ \(hang\)",
        line,
    )


# ---- the commands --------------------------------------------------------------------------------


def ranks(launcher: int) -> dict[str, int]:
    """Process ids of a launcher's children by rank."""
    found = {}
    for child in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        for variable in Path(f"/proc/{child}/environ").read_text().split("\0"):
            if variable.startswith("RANK="):
                found[variable.removeprefix("RANK=")] = int(child)
    return found


@pytest.mark.slow
@pytest.mark.skipif(
    torch.cuda.is_available(),
    reason="a machine without GPUs",
)
def test_a_pretraining_with_a_stopped_process(coco, tmp_path):
    process = start(
        "pretrain", "configs/demo/pretrain_loco.py", 2, "--work-dir", tmp_path, *OPTIONS,
        "epochs=1000", f"data_root={coco}/train2017", "default_hooks.checkpoint.by_epoch=False",
        PORT=str(free_port()), COLLECTIVE_TIMEOUT="8",
    )  # fmt: skip
    while not (tmp_path / "last_checkpoint").exists() and process.poll() is None:
        time.sleep(0.1)
    victim = ranks(process.pid)["1"]
    os.kill(victim, signal.SIGSTOP)
    begun = time.monotonic()
    said = next(line for line in process.stdout if line.startswith("error: "))
    assert time.monotonic() - begun < 8 + MARGIN_S
    os.kill(victim, signal.SIGKILL)  # the launcher does so after 30 seconds
    process.communicate(timeout=300)
    assert process.returncode == 1
    assert re.match(r"error: no progress in 8 s: rank 1 on \S+ gives no sign of life", said)
    last = Path((tmp_path / "last_checkpoint").read_text())
    assert read_meta(last)["iter"] == int(last.stem.removeprefix("iter_"))
