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

from results.plan.planned_run import TRAINERS, Run
from results.record.run_record import FILE_NAME, RunRecord

SCRIPTS = {"pretrain": "pretrain", "linear": "linear_probe", "transfer": "dist_train"}  # tools/
MODULES = {
    "pretrain": "pretrain.train",
    "linear": "pretrain.readout.linear_probe",
    "transfer": "transfer.train",
}
OUR_LOCK, TRAINER_LOCK = (
    ".reproduce.lock",
    ".lock",
)  # the second: pretrain.engine.launch
FAILED = "failed.txt"
LOG = "reproduce.log"


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


class OtherRun(ValueError):
    """A folder holds the record of another run than the planned one."""


def state(run: Run, place: Place) -> str:
    """done, running, failed (in this call or an earlier one), missing, other run or damaged.

    The last two need a hand, and :func:`is_done` says how: the folder holds the record of another
    run, or one that cannot be read.
    """
    try:
        if is_done(run, place):
            return "done"
    except OtherRun:
        return "other run"
    except (OSError, ValueError):
        return "damaged"
    folder = place.folder(run)
    if is_locked(folder / OUR_LOCK) or is_locked(folder / TRAINER_LOCK):
        return "running"
    return "failed" if (folder / FAILED).is_file() else "missing"


def what_to_do(run: Run, place: Place) -> str:
    """Of a run that is damaged or another one: what was found, and how to mend it; else ""."""
    try:
        is_done(run, place)
    except (OSError, ValueError) as error:
        return str(error)
    return ""


def is_done(run: Run, place: Place) -> bool:
    """Whether the result is there and, if it is a record, of this run.

    Raises:
        OtherRun: it is of another run.
        ValueError: it cannot be read.
    """
    path = place.result(run)
    if not path.exists():
        return False
    if run.kind in TRAINERS:
        try:
            record = RunRecord.read(path)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{error}; move it away, and the run ends anew from its last checkpoint: "
                f"mv {shlex.quote(str(path))} {shlex.quote(f'{path}.damaged')}"
            ) from error
        configs = {Path(config).name for config in (run.config, *run.also)}
        planned = {
            "kind": run.kind,
            "method": run.method,
            "encoder": run.encoder,
            "pretrain_epochs": run.epochs,
            "split": run.split,
        }
        wrong = [
            f"{name} {getattr(record, name)} instead of {value}"
            for name, value in planned.items()
            if getattr(record, name) != value
        ]
        if Path(record.config).name not in configs:
            wrong.append(f"config {record.config} instead of {run.config}")
        if wrong:
            raise OtherRun(
                f"{path} is the record of another run: {', '.join(wrong)}; move its folder away, "
                "or name another one for the runs with --runs DIR"
            )
    return True


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock."""
    try:
        file = path.open("a") if path.is_file() else None
    except PermissionError:
        return True  # another user's
    if file is None:
        return False
    with file:
        return not _take(file, fcntl.LOCK_SH)


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
