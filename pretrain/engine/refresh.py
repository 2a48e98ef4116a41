"""The tables beside the runs, brought up to date when a run has ended well.

The launchers ask for it: ``REFRESH_TABLES`` in the environment is 0 for no, 1 for the folder
``tables`` beside the run's own, or names another folder; 1 is their default.
"""

import os
import subprocess
import sys
from pathlib import Path

from results.record.files import take_lock, write_atomically
from results.record.run_record import FILE_NAME

VARIABLE = "REFRESH_TABLES"
INPUTS = (f"*/{FILE_NAME}", "*/footprint*.json")  # nothing deeper: data may lie there too
LONGEST_S = 600  # ten thousand records take a few


def refresh_tables(work_dir: Path) -> None:
    """Write tables, figures and report of all runs beside ``work_dir``, unless they are up to date.

    Of runs that end at the same time one waits for the other, and reads both records. A fault is
    printed; it never is the run's.
    """
    wanted = os.environ.get(VARIABLE, "0")
    if wanted == "0":
        return
    beside = work_dir.absolute().parent
    out = beside / "tables" if wanted == "1" else Path(wanted)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with take_lock(out / ".lock", wait=True):
            _refresh(sorted(path for pattern in INPUTS for path in beside.glob(pattern)), out)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        _, _, told = (getattr(error, "stderr", None) or str(error)).strip().rpartition("\n")
        print(
            f"the tables in {out} are not up to date: {told}; write them with: python -m results "
            f"{beside} --out {out}",
            flush=True,
        )


def _refresh(files: list[Path], out: Path) -> None:
    """``.refreshed`` tells the files of the last time apart from any others."""
    refreshed, now = out / ".refreshed", _seen(files)  # before they are read
    if refreshed.is_file() and refreshed.read_text(errors="replace") == now:
        return
    subprocess.run(
        [sys.executable, "-m", "results", *map(str, files), "--out", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
        timeout=LONGEST_S,
    )
    write_atomically(refreshed, now.encode())
    print(f"wrote the tables of {len(files)} runs in {out}", flush=True)


def _seen(files: list[Path]) -> str:
    """Which files there are, and as they are now; whatever a clock says."""
    stats = [(str(file), file.stat()) for file in files]
    return repr([(n, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for n, s in stats])
