"""A command in a session of its own, as a scheduler starts it: killed and waited for as a whole."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tools.setup.machine import ROOT


class Session:
    """A running command of the project, with all processes that it starts.

    Args:
        command: what a user types, in the repository's root.
        environment: on top of this process's.
        output: gets stdout and stderr. It is locked for as long as any of the processes lives: all
            of them inherit it.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], output: Path
    ) -> None:
        self.output = output
        self.begun = time.monotonic()
        with output.open("wb") as log:
            fcntl.flock(log, fcntl.LOCK_EX)
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self.begun

    def runs(self) -> bool:
        """Whether the first process of it does."""
        return self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """A signal to every process, as Slurm's scancel and its time limit do."""
        with suppress(ProcessLookupError):  # it has just ended
            os.killpg(self._process.pid, number)

    def heeds(self, number: signal.Signals) -> bool:
        """Whether its first process looks after a signal by now, or holds it back."""
        with suppress(OSError):
            status = Path(f"/proc/{self._process.pid}/status").read_text()
            masks = re.findall(r"^Sig(?:Blk|Cgt):\s+(\w+)$", status, re.MULTILINE)
            return any(int(mask, 16) >> (number - 1) & 1 for mask in masks)
        return False

    def processes(self) -> dict[int, tuple[int, bytes, bytes]]:
        """Parent, command line and environment of every process of it, by id."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                stat = (folder / "stat").read_text().rpartition(") ")[2].split()
                if int(stat[3]) == self._process.pid and stat[0] != "Z":
                    command, environment = (folder / "cmdline", folder / "environ")
                    found[int(folder.name)] = (
                        int(stat[1]), command.read_bytes(), environment.read_bytes(),
                    )  # fmt: skip
        return found

    def wait(self, timeout_s: float) -> int | None:
        """The exit status; None where it, or a process that it started, lives on too long.

        What lives on is killed.
        """
        until = time.monotonic() + timeout_s
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            status = None
        with self.output.open("rb") as log:
            while True:
                try:
                    fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return status
                except BlockingIOError:
                    if time.monotonic() > until:
                        break
                    time.sleep(0.01)
        self.send(signal.SIGKILL)
        self._process.wait()
        return None


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
