"""Runs what is missing of a plan on this machine, one run after the other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from types import FrameType

from pretrain.engine.stopping import TRY_AGAIN, end_with_the_parent
from results.plan.run import Run
from tools.reproduce.state import FAILED, LOG, Place, locked, look

SECONDS_BETWEEN_LOOKS = 2.0  # at what others are running


def run_missing(
    runs: Sequence[Run],
    place: Place,
    command: Callable[[Run], list[str]],
    seconds: float = SECONDS_BETWEEN_LOOKS,
) -> dict[str, str]:
    """Run all that is not done, each after what it needs, until nothing can be run any more.

    What another process is running is waited for, and taken over where that process has died
    without a result. A run that fails here is left, with all that needs it, to the next call.

    Args:
        runs: needs first.
        place: where they lie.
        command: of a run.
        seconds: between two looks at what others are running.

    Returns:
        The state of each run by name: done, failed, skipped, other run or damaged.
    """
    tried = set[str]()
    while True:
        states = {run.name: look(run, place)[0] for run in runs}
        ready = [
            run
            for run in runs
            if states[run.name] in ("missing", "failed")  # in an earlier call
            and run.name not in tried
            and all(states[need.name] == "done" for need in run.needs)
        ]
        if ran := next((run for run in ready if execute(run, place, command(run))), None):
            tried.add(ran.name)
        elif ready or "running" in states.values():
            time.sleep(seconds)
        else:
            return {
                name: "skipped" if found in ("missing", "failed") and name not in tried else found
                for name, found in states.items()
            }


def execute(run: Run, place: Place, command: list[str]) -> bool:
    """Run it unless another process has just begun or finished it.

    It inherits the lock, and is told to end when this process does, however that ends.

    Returns:
        Whether it was run here, well or not.
    """
    folder = place.folder(run)
    with locked(folder) as lock:
        if lock is None or place.result(run).exists():
            return False
        (folder / FAILED).unlink(missing_ok=True)
        begun = time.monotonic()
        print(f"{run.name}: {place.shown(run)}", flush=True)
        with (
            (folder / LOG).open("a") as log,
            subprocess.Popen(
                command,
                env={"PYTHON": sys.executable, **os.environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[lock.fileno()],
                preexec_fn=end_with_the_parent(signal.SIGTERM),  # a trainer saves
            ) as process,
        ):
            try:
                status = process.wait()
            except BaseException:
                process.terminate()
                raise
        seconds = f"after {time.monotonic() - begun:.0f} s"
        found, told = look(run, place)
        if status == 0 and found == "done":
            print(f"{run.name}: done {seconds}", flush=True)
            return True
        why = f"exit status {status}" if status else told or f"it left no {place.result(run)}"
        (folder / FAILED).write_text(f"{why}\n")
        tail = (folder / LOG).read_text(errors="replace").splitlines()[-5:]
        print("\n".join(f"  {line[:200]}" for line in tail))
        print(f"{run.name}: failed {seconds}, {why}; its output is in {folder / LOG}", flush=True)
        return True


def end_when_asked() -> None:
    """SIGTERM and Ctrl-C end this process in good order: a trainer can save first."""

    def end(number: int, frame: FrameType | None) -> None:
        sys.exit(TRY_AGAIN if number == signal.SIGTERM else 128 + number)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
