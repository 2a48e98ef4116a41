"""When a signal is sent: at a moment of the whole time, or just as something is being written."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path

from tests.reliability.files import files
from tests.reliability.session import Session

SECONDS_BETWEEN_LOOKS = 0.002
LONGEST_WRITE_S = 0.02  # after a write was seen, the signal falls within this time


@dataclass(frozen=True)
class Moment:
    """So many seconds after the start; or after a write: the so-manieth, or one of a name."""

    seconds: float
    write: int = 0
    name: str = ""  # part of it: while a file is being written, its name has more to it

    @property
    def aimed(self) -> bool:
        """Whether it is at a write."""
        return bool(self.write or self.name)


def draw(dice: random.Random, seconds: float, writes: int) -> Moment:
    """One in two over the whole time of the undisturbed run, start-up and end included; the other
    aimed at one of its writes."""
    if writes and dice.random() < 0.5:
        return Moment(dice.uniform(0, LONGEST_WRITE_S), dice.randint(1, writes))
    return Moment(dice.uniform(0, seconds))


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
            try:
                status = path.stat()
            except FileNotFoundError:
                continue  # renamed or removed meanwhile
            found[path] = (status.st_ino, status.st_size)
        return found


def wait_for(moment: Moment, session: Session, writes: Writes) -> bool:
    """Wait for the moment; False where the session ended before it."""
    while writes.update() < moment.write or not writes.has(moment.name):
        if not session.runs():
            return False
        time.sleep(SECONDS_BETWEEN_LOOKS)
    until = moment.seconds + (session.seconds() if moment.aimed else 0.0)
    while session.seconds() < until:
        if not session.runs():
            return False
        time.sleep(min(0.05, max(0.0, until - session.seconds())))
    writes.update()
    return session.runs()
