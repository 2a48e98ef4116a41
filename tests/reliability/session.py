"""A command with all processes that it starts, and the moment at which a signal falls."""

from __future__ import annotations

import fcntl
import os
import re
import runpy
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from tests.reliability.files import files
from tools.setup.machine import ROOT

SCRIPTS = {  # module: what a user types for it, given a config and the number of processes
    "pretrain.train": "tools/pretrain.sh",
    "transfer.train": "tools/dist_train.sh",
    "transfer.evaluate": "tools/dist_test.sh",
}
FORKED = get_context("forkserver")
FORKED.set_forkserver_preload(
    [
        "pretrain.engine.launch",
        "pretrain.hooks",
        "transfer.stored_detector",
        "results.report.report",
    ]
)


class Session:
    """A running command of the project in a session of its own, as a scheduler starts it.

    Args:
        steps: modules with their arguments, one after the other.
        environment: on top of this process's.
        output: gets stdout and stderr. It is locked for as long as any of the processes lives: all
            of them inherit it.
        processes: of a trainer. 0: the modules run in a fork of a process that has imported torch,
            without launcher, which saves seconds a start.
    """

    def __init__(
        self, steps: Sequence[list[str]], environment: Mapping[str, str], output: Path,
        processes: int = 1,
    ) -> None:  # fmt: skip
        self.output = output
        self.begun = time.monotonic()
        if not processes:
            child = FORKED.Process(target=_run_modules, args=(steps, dict(environment), output))
            child.start()
            self.pid, self._status, self._wait = child.pid or 0, lambda: child.exitcode, child.join
            return
        with output.open("wb") as log:
            fcntl.flock(log, fcntl.LOCK_EX)
            process = subprocess.Popen(
                ["bash", "-ec", "\n".join(as_typed(*step, processes=processes) for step in steps)],
                cwd=ROOT, env={**os.environ, "PYTHON": sys.executable, **environment},
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        self.pid, self._status, self._wait = process.pid, process.poll, process.wait

    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self.begun

    def runs(self) -> bool:
        """Whether its first process does."""
        return self._status() is None

    def send(self, number: signal.Signals) -> None:
        """A signal to every process, as Slurm's scancel and its time limit do."""
        with suppress(ProcessLookupError):  # it has just ended
            os.killpg(self.pid, number)

    def heeds(self, number: signal.Signals) -> bool:
        """Whether its first process handles a signal by now, or holds it back."""
        with suppress(OSError):
            status = Path(f"/proc/{self.pid}/status").read_text()
            masks = re.findall(r"^Sig(?:Blk|Cgt):\s+(\w+)$", status, re.MULTILINE)
            return any(int(mask, 16) >> (number - 1) & 1 for mask in masks)
        return False

    def processes(self) -> dict[int, tuple[int, bytes, bytes]]:
        """Parent, command line and environment of every process of it, by id."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                stat = (folder / "stat").read_text().rpartition(") ")[2].split()
                if int(stat[3]) == self.pid and stat[0] != "Z":
                    command, environment = (folder / "cmdline", folder / "environ")
                    told = (command.read_bytes(), environment.read_bytes())
                    found[int(folder.name)] = (int(stat[1]), *told)
        return found

    def wait(self, timeout_s: float) -> int | None:
        """The exit status; None where a process of it lives on too long and has to be killed."""
        until = time.monotonic() + timeout_s
        with suppress(subprocess.TimeoutExpired):
            self._wait(timeout_s)
        with self.output.open("ab") as log:
            while time.monotonic() < until:
                with suppress(BlockingIOError):
                    fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return self._status()
                time.sleep(0.01)
        self.send(signal.SIGKILL)
        self._wait()
        return None


def as_typed(module: str, *arguments: str, processes: int) -> str:
    """The command line of a module."""
    if script := SCRIPTS.get(module):
        places = 2 if module == "transfer.evaluate" else 1  # config, checkpoint
        words = ("bash", script, *arguments[:places], str(processes), *arguments[places:])
    else:
        words = (sys.executable, "-m", module, *arguments)
    return shlex.join(words)


def _run_modules(steps: Sequence[list[str]], environment: dict[str, str], output: Path) -> None:
    os.setsid()
    os.environ |= environment
    log = os.open(output, os.O_WRONLY | os.O_CREAT)
    fcntl.flock(log, fcntl.LOCK_EX)
    os.dup2(log, 1)
    os.dup2(log, 2)
    for module, *arguments in steps:
        start = ["pretrain.engine.start"] if module in SCRIPTS else []
        sys.argv = [*start, module, *arguments] if start else [module, *arguments]
        runpy.run_module(start[0] if start else module, run_name="__main__", alter_sys=True)


def loader_workers(session: Session) -> list[int]:
    """Those that Python has forked without starting another program."""
    found = session.processes()
    return [
        process
        for process, (parent, command, _) in found.items()
        if parent in found and found[parent][1] == command and b"python" in command
    ]


def second_process(session: Session) -> list[int]:
    """Rank 1 of several."""
    found = session.processes()
    return [
        process
        for process, (parent, _, environment) in found.items()
        if b"\0RANK=1\0" in environment
        and b"\0RANK=" not in found.get(parent, (0, b"", b"\0RANK="))[2]
    ]


# ---- moments -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Moment:
    """So many seconds after the start; or after a write: the so-manieth, or one of a name."""

    seconds: float = 0.0
    write: int = 0
    name: str = ""  # part of it: while a file is being written, its name has more to it

    @property
    def aimed(self) -> bool:
        """Whether it is at a write."""
        return bool(self.write or self.name)


class Writes:
    """Counts what is written in a folder: new files, and those that are replaced or emptied."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0
        self.names: set[str] = set()
        self._seen = self._look()

    def update(self) -> int:
        """How many there have been."""
        now = self._look()
        for path, (number, size) in now.items():
            known, before = self._seen.get(path, (None, 0))
            if number != known or size < before:
                self.count += 1
                self.names.add(path.name)
        self._seen = now
        return self.count

    def has(self, name: str) -> bool:
        """Whether one of them has this in its name."""
        return not name or any(name in written for written in self.names)

    def _look(self) -> dict[Path, tuple[int, int]]:
        """Inode and size of every file."""
        found = {}
        for path in files(self.folder):
            with suppress(FileNotFoundError):  # renamed or removed meanwhile
                status = path.stat()
                found[path] = (status.st_ino, status.st_size)
        return found

    def wait_for(self, moment: Moment, session: Session) -> bool:
        """Wait for the moment; False where the session ended before it."""
        while self.update() < moment.write or not self.has(moment.name):
            if not session.runs():
                return False
            time.sleep(0.005)
        until = moment.seconds + (session.seconds() if moment.aimed else 0.0)
        while session.runs() and (left := until - session.seconds()) > 0:
            time.sleep(min(0.05, left))
        self.update()
        return session.runs()
