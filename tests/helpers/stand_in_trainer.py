"""A plan whose trainers are this file: ``stand_in_trainer.py BASE SECONDS ... --work-dir DIR``.

Like a trainer it takes a while to start. Then it takes the folder's lock, works a moment, leaves
the record BASE/templates/NAME.json, and writes into BASE/journal when it begins and when it ends,
or why it refuses. "broken" fails until there is a file BASE/repaired.
"""

import fcntl
import os
import sys
import time
from pathlib import Path

from results.plan.run import Run


def run_named(name, *needs):
    return Run(
        name=name, kind="pretrain", config="configs/pretrain/loco_r50.py", arguments=("epochs=1",),
        needs=needs, method="loco", encoder="resnet50", epochs=100,
    )  # fmt: skip


A, B = run_named("a"), run_named("b")
C = run_named("c", A)
RUNS = (A, B, C, run_named("d", A, B), run_named("e", C), run_named("f"))
BROKEN = run_named("broken")


def trainer(run, place, base, seconds=0.0):
    """The command of a run."""
    start = [sys.executable, __file__, str(base), str(seconds)]
    return [*start, *place.trainer_arguments(run)]


def train(base: Path, seconds: float, folder: Path) -> int:
    def note(text: str) -> None:
        with (base / "journal").open("a") as file:
            file.write(f"{text} {folder.name}\n")

    record = folder / "record.json"
    folder.mkdir(parents=True, exist_ok=True)
    time.sleep(seconds / 2)
    with (folder / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note("twice at once")
            return 1
        if record.exists():
            note("again")
            return 1
        note("begins")
        time.sleep(seconds)
        if folder.name == "broken" and not (base / "repaired").exists():
            print("the disk is full")
            return 3
        partial = folder / "partial"
        partial.write_bytes((base / "templates" / f"{folder.name}.json").read_bytes())
        note("ends")
        os.replace(partial, record)
    return 0


if __name__ == "__main__":
    assert "--resume" in sys.argv
    work_dir = Path(sys.argv[sys.argv.index("--work-dir") + 1])
    sys.exit(train(Path(sys.argv[1]), float(sys.argv[2]), work_dir))
