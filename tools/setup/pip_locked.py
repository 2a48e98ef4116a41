"""pip, bound to a file of tools/setup/locks/: a download has one of its sha256, or is refused.

usage: python -m tools.setup.pip_locked LOCK [PIP OPTIONS]     e.g. tools/setup/locks/bench.txt
Installs what LOCK names, and nothing that it does not name.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

TRIES = 3
PAUSE_S = 10.0


class TamperedError(ValueError):
    """A package index served another file than the one that was tested."""


def pip_locked(command: str, lock: Path, *options: str, pause_s: float = PAUSE_S) -> None:
    """Run ``pip install`` or ``pip download`` for all that ``lock`` names; a network may fail.

    Raises:
        TamperedError: a file has none of the lock's hashes. That is not tried again.
        subprocess.CalledProcessError: pip failed ``TRIES`` times.
    """
    arguments = [sys.executable, "-m", "pip", command, "--no-deps", "--require-hashes"]
    for attempt in range(1, TRIES + 1):
        status, output = _run([*arguments, "-r", str(lock), *options])
        if status == 0:
            return
        if problem := tampered(output, lock):
            raise TamperedError(problem)
        if attempt < TRIES:
            print(f"pip exited with {status}; once more in {attempt * pause_s:.0f} s", flush=True)
            time.sleep(attempt * pause_s)
    raise subprocess.CalledProcessError(status, arguments)


def tampered(output: Sequence[str], lock: Path) -> str:
    """What pip says of files that do not match, with the repair; empty if it says none.

    Args:
        output: the lines that pip printed.
        lock: the file whose hashes they were held against.
    """
    problems = []
    name, listed = "a package", 0
    for line in output:
        if named := re.match(r"^\s+(\S+==\S+) from ", line):
            name, listed = named[1], 0
        elif re.match(r"^\s+(Expected sha256|Expected +or) [0-9a-f]{64}", line):
            listed += 1
        elif got := re.match(r"^\s+Got +([0-9a-f]{64})", line):
            forget = f"{sys.executable} -m pip cache remove '{name.split('==')[0]}'"
            problems.append(
                f"{name} is not the file that was tested\n"
                f"  found     sha256 {got[1]}\n"
                f"  expected  one of the {listed} listed in {lock}\n"
                f"  repair    {forget}\n"
                "            then run this again; if it is refused again, the package index\n"
                "            serves another file: do not install it"
            )
    return "\n".join(problems)


def _run(command: Sequence[str]) -> tuple[int, list[str]]:
    """Exit status and lines of a command, whose output is passed on while it runs."""
    lines = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    return process.returncode, lines


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: python -m tools.setup.pip_locked LOCK [PIP OPTIONS]")
    try:
        pip_locked("install", Path(sys.argv[1]), *sys.argv[2:])
    except TamperedError as error:
        sys.exit(f"error: {error}")
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: pip exited with {error.returncode}, {TRIES} times; see above")
