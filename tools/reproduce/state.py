"""Where the runs of a plan stand, and who may start one."""

from __future__ import annotations

import fcntl
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from results.plan.run import TRAINERS, Run
from results.record.run_record import FILE_NAME, RunRecord

SCRIPTS = {"pretrain": "pretrain", "linear": "linear_probe", "transfer": "dist_train"}  # tools/
OUR_LOCK, TRAINER_LOCK = ".reproduce.lock", ".lock"  # the second: pretrain.engine.launch
FAILED = "failed.txt"
LOG = "reproduce.log"
NEEDS_A_HAND = ("other run", "damaged")


@dataclass(frozen=True)
class Place:
    """Where runs and data lie; paths from the repository's root, as the trainers take them."""

    runs: str
    data: str

    def folder(self, run: Run) -> Path:
        return Path(self.runs) / run.name

    def fill(self, text: str) -> str:
        return text.format(runs=self.runs, data=self.data)

    def result(self, run: Run) -> Path:
        """The file that is there once the run is done."""
        return Path(self.fill(run.result)) if run.result else self.folder(run) / FILE_NAME

    def trainer_arguments(self, run: Run) -> list[str]:
        """All that a trainer is given after its config."""
        options = [self.fill(option) for option in run.arguments]
        return ["--work-dir", str(self.folder(run)), "--resume", "--cfg-options", *options]

    def command(self, run: Run, processes: int | None = None) -> list[str]:
        """What runs it here."""
        if run.kind not in TRAINERS:
            return [sys.executable, "-m", *map(self.fill, run.arguments)]
        number = [] if processes is None else [str(processes)]
        script = f"tools/{SCRIPTS[run.kind]}.sh"
        return ["bash", script, run.config, *number, *self.trainer_arguments(run)]

    def shown(self, run: Run) -> str:
        """The command as a user would type it."""
        return shlex.join(self.command(run)).replace(sys.executable, "python", 1)


def look(run: Run, place: Place) -> tuple[str, str]:
    """The state of a run, and what to do about it where its folder needs a hand.

    The state is done, running, failed (in this call or an earlier one), missing; other run, where
    the folder has the record of another one; or damaged, where its record cannot be read.
    """
    path, folder = place.result(run), place.folder(run)
    if path.exists():
        if run.kind not in TRAINERS:
            return "done", ""
        try:
            record = RunRecord.read(path)
        except (OSError, ValueError) as error:
            return "damaged", (
                f"{error}; move it away, and the run ends anew from its last checkpoint: "
                f"mv {shlex.quote(str(path))} {shlex.quote(f'{path}.damaged')}"
            )
        if wrong := _differences(run, record):
            return "other run", (
                f"{path} is the record of another run: {wrong}; move its folder away, "
                "or name another one for the runs with --runs DIR"
            )
        return "done", ""
    if is_locked(folder / OUR_LOCK) or is_locked(folder / TRAINER_LOCK):
        return "running", ""
    return ("failed" if (folder / FAILED).is_file() else "missing"), ""


def _differences(run: Run, record: RunRecord) -> str:
    """What the record says of itself that the plan does not."""
    planned = {
        "kind": run.kind, "method": run.method, "encoder": run.encoder,
        "pretrain_epochs": run.epochs, "split": run.split,
    }  # fmt: skip
    found = {name: getattr(record, name) for name in planned}
    wrong = [f"{n} {found[n]} instead of {planned[n]}" for n in planned if found[n] != planned[n]]
    if Path(record.config).name not in {Path(config).name for config in (run.config, *run.also)}:
        wrong.append(f"config {record.config} instead of {run.config}")
    return ", ".join(wrong)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock."""
    if not path.is_file():
        return False
    try:
        with path.open("a") as file:
            return not _take(file, fcntl.LOCK_SH)
    except PermissionError:
        return True  # another user's


@contextmanager
def locked(folder: Path) -> Iterator[TextIO | None]:
    """The lock of a run's folder, open; None where another process has it.

    A child that inherits the file keeps the lock when this process is killed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / OUR_LOCK).open("a") as file:
        yield file if _take(file, fcntl.LOCK_EX) else None


def _take(file: TextIO, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
