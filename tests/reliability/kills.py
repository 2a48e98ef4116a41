"""Kills the project's commands, lets them go on, and compares what they leave.

A place (places.py) is first run undisturbed. Then runs of it are broken off several times: SIGKILL
and SIGTERM in turn to all processes of the command, or one of its processes is killed and stopped
in turn. After every kill each file in the folder must say what the undisturbed run's says, or what
it said before; at last the run is left to end, and all of it must be equal.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pretrain.engine.run_folder import LAST, last_checkpoint, read_meta
from pretrain.engine.stopping import TRY_AGAIN
from tests.reliability.files import DROPPED, GROWING, files, is_partial, meanings
from tests.reliability.places import EVERY_1, PLACES, Place
from tests.reliability.session import Moment, Session, Writes

KILLS_A_RUN = 4
LONGEST_S = 600.0  # of a command
LONGEST_END_S = 60.0  # from a signal to the end of the last process
LONGEST_WRITE_S = 0.02  # after a write was seen, the signal falls within this time
OUTPUTS = "outputs"  # of the commands, in the campaign's folder

Shot = tuple[Place, Moment, signal.Signals]


@dataclass
class Kill:
    """One signal and what was found after it."""

    place: str
    run: int
    signal: str
    seconds: float  # after the start
    phase: str  # "before any write", "writing" or "working"
    status: int | None
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Reference:
    """The undisturbed run of a place."""

    folder: Path
    seconds: float  # during which signals may fall
    writes: int  # at which they may be aimed
    files: dict[str, str]  # the meaning of each, by its path in the folder
    older: dict[str, str]  # of what lay there before

    def lost(self, before: set[str], folder: Path) -> list[str]:
        """What is wrong in the folder of a killed run that had some files before it."""
        found, faults = meanings(folder)
        for name, meaning in found.items():
            right = meaning in (self.files.get(name), self.older.get(name))
            if Path(name).name == GROWING:
                whole = (self.folder / name).read_text()
                right = whole.startswith((folder / name).read_text())
            if not right and Path(name).name != LAST:
                faults.append(f"not the undisturbed run's: {name}")
        gone = {name for name in before - found.keys() if not DROPPED.fullmatch(Path(name).name)}
        return faults + [f"gone: {name}" for name in sorted(gone)]

    def differences(self, folder: Path) -> list[str]:
        """What of a run that has ended is not as in the undisturbed one."""
        found, faults = meanings(folder)
        return faults + [
            f"differs at the end: {name}"
            for name in sorted(self.files.keys() | found.keys())
            if found.get(name) != self.files.get(name)
            and not (name not in found and DROPPED.fullmatch(Path(name).name))
        ]


def undisturbed(place: Place, base: Path, forked: bool = False) -> Reference:
    """Make the inputs and run the place to its end.

    Raises:
        RuntimeError: it fails, or leaves something that is not whole.
    """
    if place.needs and not place.needs.undisturbed(base).is_dir():
        undisturbed(place.needs, base, forked)
    base.mkdir(parents=True, exist_ok=True)
    place.inputs(base)
    folder = place.undisturbed(base)
    fresh(place, base, folder)
    older, _ = meanings(folder)
    writes = Writes(folder)
    session = begin(place, base, folder, forked)
    writes.wait_for(Moment(write=1) if place.starts else Moment(LONGEST_S), session)
    seconds = session.seconds()
    end(session)
    found, faults = meanings(folder)
    if faults:
        raise RuntimeError(f"the undisturbed run of {place.name}: {'; '.join(faults)}")
    return Reference(folder, seconds, 0 if place.starts else writes.update(), found, older)


def fresh(place: Place, base: Path, folder: Path) -> None:
    """An empty folder, or one with what lies there before the first start."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    place.older(base, folder)


def begin(place: Place, base: Path, folder: Path, forked: bool, again: bool = False) -> Session:
    """Start the place's command on a folder."""
    (base / OUTPUTS).mkdir(exist_ok=True)
    steps = place.steps(base, folder)
    if again and place.resumes:
        steps[0].insert(2, "--resume")
    elif place.resumes and folder == place.undisturbed(base):
        steps[0] += EVERY_1
    output = base / OUTPUTS / f"{place.name}_{folder.name}_{time.time_ns()}.log"
    processes = 0 if forked and place.processes == 1 else place.processes
    return Session(steps, place.environment(base, folder), output, processes)


def end(session: Session) -> None:
    """Wait for a command that nobody kills.

    Raises:
        RuntimeError: it fails, or never ends; with the end of its output.
    """
    if (status := session.wait(LONGEST_S)) != 0:
        tail = "\n".join(session.output.read_text(errors="replace").splitlines()[-15:])
        raise RuntimeError(f"ended with {status}, see {session.output}:\n{tail}")


def kill(
    shot: Shot, base: Path, folder: Path, reference: Reference, run: int, again: bool, forked: bool
) -> Kill | None:
    """Start a command, send a signal at a moment, and look at what is there then.

    Returns:
        None where the command ended before the moment.

    Raises:
        RuntimeError: it ended, and badly.
    """
    place, moment, number = shot
    before, reached, given = set(meanings(folder)[0]), iteration(folder), inputs(base)
    writes = Writes(folder)
    session = begin(place, base, folder, forked, again)
    hit = [0] if writes.wait_for(moment, session) else []
    while hit and place.part and session.runs() and not (hit := place.part(session)):
        hit = [0]
        time.sleep(0.01)
    if not hit or (place.part and hit == [0]):
        end(session)
        return None
    half_written, heeded = partials(folder), session.heeds(number)
    if place.part:
        os.kill(hit[0], number)
    else:
        session.send(number)
    seconds = session.seconds()
    status = session.wait(LONGEST_END_S)
    faults = reference.lost(before, folder)
    if status is None:
        faults.append(f"it, or what it started, lived on for {LONGEST_END_S:.0f} s")
    elif place.part:
        faults += untold(session.output.read_text(errors="replace"), status)
    elif number == signal.SIGKILL and status not in (-signal.SIGKILL, 0):
        faults.append(f"status {status} after SIGKILL")
    elif number == signal.SIGTERM and place.resumes and heeded and status not in (TRY_AGAIN, 0):
        faults.append(f"status {status} after SIGTERM instead of {TRY_AGAIN}")
    if inputs(base) != given:
        faults.append("an input was changed")
    if iteration(folder) < reached:
        faults.append(f"fell back from iteration {reached} to {iteration(folder)}")
    phase = "writing" if half_written else "working" if writes.count else "before any write"
    faults += in_vain(folder)
    return Kill(place.name, run, number.name, round(seconds, 3), phase, status, faults)


def untold(output: str, status: int | None) -> list[str]:
    """What is wrong with the end of a command that has lost one of its processes.

    One line says so. Where it did not need the process any more it ends well.
    """
    said = [line for line in output.splitlines() if line.startswith("error: ")]
    right = (status, len(said)) in ((1, 1), (0, 0)) and "Traceback" not in output
    return [] if right else [f"status {status}, told in {len(said)} lines: {output[-500:]}"]


def in_vain(folder: Path) -> list[str]:
    """Runs of a reproduction that were begun while another did them, or again."""
    journal = folder / "journal"
    lines = journal.read_text().splitlines() if journal.is_file() else []
    return [line for line in lines if line.startswith(("twice at once", "again"))]


def iteration(folder: Path) -> int:
    """Of the checkpoint that a run would continue from; 0 where there is none that is whole."""
    try:
        last = last_checkpoint(folder)
        return int(read_meta(last)["iter"]) if last else 0
    except (OSError, ValueError):
        return 0


def partials(folder: Path) -> list[Path]:
    """What is being written, or was when it was killed."""
    return [path for path in files(folder) if is_partial(path, folder)]


def inputs(base: Path) -> dict[Path, tuple[int, int]]:
    """Size and time of every file that the runs share."""
    of_runs = {base / OUTPUTS, *(place.undisturbed(base).parent for place in PLACES.values())}
    return {
        path: (path.stat().st_size, path.stat().st_mtime_ns)
        for path in files(base)
        if of_runs.isdisjoint(path.parents)
    }


def one_run(
    base: Path, run: int, reference: Reference, shots: Sequence[Shot], forked: bool = False
) -> list[Kill]:
    """Start, kill and start again, then leave it to end.

    Args:
        base: folder of the campaign.
        run: number.
        reference: from :func:`undisturbed`.
        shots: places of one command, moments and signals. A run that ends before a moment has had
            its last kill.
        forked: see :class:`Session`.
    """
    folder = reference.folder.parent / f"run{run:03d}"
    fresh(shots[0][0], base, folder)
    kills: list[Kill] = []
    try:
        for shot in shots:
            if kills and shot[0].loses:
                (folder / shot[0].loses).unlink(missing_ok=True)
            found = kill(shot, base, folder, reference, run, bool(kills), forked)
            if found is None:
                break
            kills.append(found)
        else:
            end(begin(shots[-1][0], base, folder, forked, again=True))
    except RuntimeError as error:
        if not kills:
            raise
        kills[-1].faults.append(f"did not go on: {error}")
    if kills:
        kills[-1].faults += reference.differences(folder) + in_vain(folder)
    if not any(kill.faults for kill in kills):
        shutil.rmtree(folder)
    return kills


def draw(dice: random.Random, reference: Reference) -> Moment:
    """One in two over the whole time of the undisturbed run, the other just after a write."""
    if reference.writes and dice.random() < 0.5:
        return Moment(dice.uniform(0, LONGEST_WRITE_S), dice.randint(1, reference.writes))
    return Moment(dice.uniform(0, reference.seconds))


def campaign(
    base: Path, kills: int, seed: int, places: Sequence[str], each: Callable[[list[Kill]], None]
) -> list[Kill]:
    """So many kills in each place.

    Args:
        base: folder for inputs and runs; of a run with a fault everything is kept.
        kills: in each place.
        seed: of the moments.
        places: names in PLACES.
        each: is given all kills so far after every run.
    """
    found: list[Kill] = []
    for place in map(PLACES.__getitem__, places):
        reference = undisturbed(place, base)
        dice = random.Random(f"{seed} {place.name}")
        done = run = 0
        while done < kills:
            numbers = [*place.signals * KILLS_A_RUN][run % 2 :][: min(KILLS_A_RUN, kills - done)]
            shots = [(place, draw(dice, reference), number) for number in numbers]
            new = one_run(base, run, reference, shots)
            done, run = done + len(new), run + 1
            found += new
            each(found)
            faults = sum(bool(kill.faults) for kill in found)
            print(f"{place.name}: {done} of {kills} kills, {faults} with faults in all", flush=True)
    return found
