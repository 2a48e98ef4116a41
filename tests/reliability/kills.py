"""Kills the project's commands at random moments, lets them go on, and compares what they leave.

A place (places.py) is first run undisturbed. Then runs of it are broken off up to KILLS_A_RUN
times, SIGKILL and SIGTERM in turn, sent to all processes of the command; or one process of it is
killed and stopped in turn. After every kill what lies in the folder is compared with the
undisturbed run's, file by file, and at last the run is left to end.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pretrain.engine.resume import last_checkpoint, read_meta
from pretrain.engine.stop_signals import TRY_AGAIN
from tests.reliability.files import meanings
from tests.reliability.moments import Moment, Writes, draw, wait_for
from tests.reliability.places import PLACES, Place
from tests.reliability.reference import Reference, begin, end, fresh, inputs, partials, undisturbed
from tests.reliability.session import Session

KILLS_A_RUN = 4
LONGEST_END_S = 60.0  # from a signal to the end of the last process

Shot = tuple[Moment, signal.Signals]


@dataclass
class Kill:
    """One signal and what was found after it."""

    place: str
    run: int
    signal: str
    aimed_at: str  # "a moment" or "a write"
    seconds: float  # after the start
    phase: str  # "before any write", "writing", "working" or "finishing"
    status: int | None
    whole_files: int
    half_written: int  # under a name that says so
    left_at_the_end: int = 0  # of those, when the run has ended
    faults: list[str] = field(default_factory=list)


def kill(
    place: Place, base: Path, folder: Path, reference: Reference, moment: Moment,
    number: signal.Signals, again: bool, run: int = 0,
) -> Kill | None:  # fmt: skip
    """Start the place's command, send a signal at a moment, and look at what is there then.

    Returns:
        None where the command ended before the moment.

    Raises:
        RuntimeError: it ended, and badly.
    """
    before = set(meanings(folder)[0])
    reached = iteration(folder)
    writes = Writes(folder)
    session = begin(place, base, folder, again)
    if not wait_for(moment, session, writes):
        end(session)
        return None
    if not (hit := hits(place, session)):
        end(session)
        return None
    half_written, heeded = partials(folder), session.heeds(number)
    if place.part:
        os.kill(hit[0], number)
    else:
        session.send(number)
    seconds = session.seconds()
    status = session.wait(LONGEST_END_S)
    present, faults = reference.lost(before, folder)
    if status is None:
        faults.append(f"it, or what it started, lived on for {LONGEST_END_S:.0f} s")
    elif place.part:
        faults += untold(session.output.read_text(errors="replace"), status)
    elif number == signal.SIGKILL and status not in (-signal.SIGKILL, 0):
        faults.append(f"status {status} after SIGKILL")
    if inputs(base) != reference.given:
        faults.append("an input was changed")
    if iteration(folder) < reached:
        faults.append(f"fell back from iteration {reached} to {iteration(folder)}")
    faults += place.faults(folder)
    phase = "before any write" if writes.count == 0 else "writing" if half_written else "working"
    if writes.count and not half_written and not reference.differences(folder):
        phase = "finishing"
    if number == signal.SIGTERM and place.saves and heeded and status not in (TRY_AGAIN, 0):
        faults.append(f"status {status} after SIGTERM instead of {TRY_AGAIN}")
    return Kill(
        place=place.name,
        run=run,
        signal=number.name,
        aimed_at="a write" if moment.aimed else "a moment",
        seconds=round(seconds, 3),
        phase=phase,
        status=status,
        whole_files=len(present),
        half_written=len(half_written),
        faults=faults,
    )


def hits(place: Place, session: Session) -> list[int]:
    """The processes one of which is to be hit, once there are some; none: the command has ended."""
    while session.runs():
        if found := place.part(session) if place.part else [0]:
            return found
        time.sleep(0.01)
    return []


def untold(output: str, status: int | None) -> list[str]:
    """What is wrong with the end of a command that has lost one of its processes.

    One line says so. Where it did not need the process any more it ends well.
    """
    said = [line for line in output.splitlines() if line.startswith("error: ")]
    right = (status, len(said)) in ((1, 1), (0, 0)) and "Traceback" not in output
    return [] if right else [f"status {status}, told in {len(said)} lines: {output[-500:]}"]


def iteration(folder: Path) -> int:
    """Of the checkpoint that a run would continue from; 0 where there is none that is whole."""
    try:
        last = last_checkpoint(folder)
        return int(read_meta(last)["iter"]) if last else 0
    except (OSError, ValueError):
        return 0


def one_run(
    place: Place, base: Path, run: int, reference: Reference, plan: Sequence[Shot]
) -> list[Kill]:
    """Start, kill and start again, then leave it to end.

    Args:
        place: where.
        base: folder of the campaign.
        run: number.
        reference: from :func:`undisturbed`.
        plan: moments and signals. A run that ends before a moment has had its last kill.
    """
    folder = base / place.name / f"run{run:03d}"
    fresh(place, base, folder)
    kills: list[Kill] = []
    try:
        for moment, number in plan:
            if kills:
                place.spoil(folder)
            found = kill(place, base, folder, reference, moment, number, bool(kills), run)
            if found is None:
                break
            kills.append(found)
        else:
            place.spoil(folder)
            end(begin(place, base, folder, again=True))
    except RuntimeError as error:
        if not kills:
            raise
        kills[-1].faults.append(f"did not go on: {error}")
    if kills:
        kills[-1].faults += reference.differences(folder) + place.faults(folder)
        kills[-1].left_at_the_end = len(partials(folder))
    if not any(kill.faults for kill in kills):
        shutil.rmtree(folder)
    return kills


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
    begun = time.monotonic()
    for name in places:
        reference = undisturbed(PLACES[name], base)
        dice = random.Random(f"{seed} {name}")
        done = run = 0
        while done < kills:
            numbers = [*PLACES[name].signals * KILLS_A_RUN][run % 2 :][
                : min(KILLS_A_RUN, kills - done)
            ]
            plan = [(draw(dice, reference.seconds, reference.writes), n) for n in numbers]
            new = one_run(PLACES[name], base, run, reference, plan)
            done, run = done + len(new), run + 1
            found += new
            each(found)
            share = len(found) / (kills * len(places))
            left = (time.monotonic() - begun) * (1 - share) / max(share, 1e-9) / 60
            faults = sum(bool(kill.faults) for kill in found)
            print(
                f"{name}: {done} of {kills} kills, {faults} with faults in all; "
                f"about {left:.0f} min left",
                file=sys.stderr, flush=True,
            )  # fmt: skip
    return found
