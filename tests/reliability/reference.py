"""The undisturbed run of a place, and what in another run's folder is not as there."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from pretrain.engine.resume import LAST
from tests.reliability.files import DROPPED, GROWING, files, is_partial, meanings
from tests.reliability.moments import Moment, Writes, wait_for
from tests.reliability.places import PLACES, Place, undisturbed_folder
from tests.reliability.session import Session

OUTPUTS = "outputs"  # of the commands, in the campaign's folder
LONGEST_S = 600.0  # of a command


@dataclass(frozen=True)
class Reference:
    """The undisturbed run of a place."""

    folder: Path
    seconds: float  # during which signals may fall
    writes: int  # at which they may be aimed
    files: dict[str, str]  # the meaning of each, by its path in the folder
    older: dict[str, str]  # of what lay there before
    given: dict[str, tuple[int, int]]  # size and time of every input

    def lost(self, before: set[str], folder: Path) -> tuple[set[str], list[str]]:
        """What is there in the folder of a killed run, and what is wrong with it.

        Every file has to say what the undisturbed run's says, or what it said before; and none that
        was there before the start that was killed may be missing.
        """
        found, faults = meanings(folder)
        for name, meaning in found.items():
            if Path(name).name == GROWING:
                whole = (self.folder / name).read_text()
                right = whole.startswith((folder / name).read_text())
            else:
                right = meaning in (self.files.get(name), self.older.get(name))
            if not right and Path(name).name != LAST:
                faults.append(f"not the undisturbed run's: {name}")
        gone = {name for name in before - found.keys() if not DROPPED.fullmatch(Path(name).name)}
        faults += [f"gone: {name}" for name in sorted(gone)]
        return set(found), faults

    def differences(self, folder: Path) -> list[str]:
        """What of a run that has ended is not as in the undisturbed one."""
        found, faults = meanings(folder)
        for name in sorted(self.files.keys() | found.keys()):
            if name not in found and DROPPED.fullmatch(Path(name).name):
                continue
            if found.get(name) != self.files.get(name):
                faults.append(f"differs at the end: {name}")
        return faults


def partials(folder: Path) -> list[str]:
    """What is being written, or was when it was killed."""
    return sorted(
        path.relative_to(folder).as_posix() for path in files(folder) if is_partial(path, folder)
    )


def inputs(base: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file that the runs share."""
    of_runs = {base / name for name in (*PLACES, OUTPUTS)}
    return {
        path.relative_to(base).as_posix(): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in files(base)
        if of_runs.isdisjoint(path.parents)
    }


def begin(place: Place, base: Path, folder: Path, again: bool) -> Session:
    """Start the place's command on a folder."""
    (base / OUTPUTS).mkdir(exist_ok=True)
    command = place.command(base, folder, again)
    if folder == undisturbed_folder(place, base):
        command += place.undisturbed
    output = base / OUTPUTS / f"{place.name}_{folder.name}_{time.time_ns()}.log"
    return Session(command, place.environment(base, folder), output)


def fresh(place: Place, base: Path, folder: Path) -> None:
    """An empty folder, or one with what lies there before the first start."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if place.older:
        place.older(base, folder)


def end(session: Session) -> None:
    """Wait for a command that nobody kills.

    Raises:
        RuntimeError: it fails, or never ends; with the end of its output.
    """
    if status := session.wait(LONGEST_S):
        tail = "\n".join(session.output.read_text(errors="replace").splitlines()[-15:])
        raise RuntimeError(f"ended with {status}, see {session.output}:\n{tail}")


def undisturbed(place: Place, base: Path) -> Reference:
    """Make the inputs and run the place to its end.

    Raises:
        RuntimeError: it fails, or leaves something that is not whole.
    """
    for needed in place.needs:
        if not undisturbed_folder(needed, base).is_dir():
            undisturbed(needed, base)
    base.mkdir(parents=True, exist_ok=True)
    place.inputs(base)
    folder = undisturbed_folder(place, base)
    fresh(place, base, folder)
    older, _ = meanings(folder)
    given = inputs(base)
    writes = Writes(folder)
    session = begin(place, base, folder, again=False)
    wait_for(Moment(0.0, write=1) if place.starts else Moment(LONGEST_S), session, writes)
    seconds = session.seconds()
    end(session)
    found, faults = meanings(folder)
    if faults:
        raise RuntimeError(f"the undisturbed run of {place.name}: {'; '.join(faults)}")
    count = 0 if place.starts else writes.update()
    return Reference(folder, seconds, count, found, older, given)
