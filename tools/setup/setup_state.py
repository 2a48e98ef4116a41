"""Where a set-up stands: finished and unchanged, or broken off and to be repaired.

usage: python -m tools.setup.setup_state {current,repair,finish}   (with the Python of .venv)
    current   exit status 0 if .venv is what setup.sh would make again, else 1
    repair    remove what a killed pip left half installed, so that the next pip installs it
    finish    note that .venv is whole
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from tools.setup.machine import ROOT, find_toolkit, gpu_models

SOURCES = (
    "pyproject.toml",
    "tools/setup/locks/pip.txt",
    "tools/setup/locks/install.txt",
    "tools/setup/locks/mmcv.txt",
    "tools/setup/pip_locked.py",
    "tools/setup.sh",
    "tools/setup/setup_state.py",
    "tools/setup/mmcv_wheel.py",
    "tools/setup/machine.py",
)


def fingerprint(root: Path, sources: Sequence[str] = SOURCES) -> str:
    """A hash of all that a set-up follows from, the machine's GPUs left out."""
    digest = hashlib.sha256(f"{root}\n{sys.version}\n".encode())
    for source in sources:
        digest.update((root / source).read_bytes())
    return digest.hexdigest()


def cuda_wish() -> list[str]:
    """For what CUDA operators are wanted here; empty: for nothing. Found without loading torch."""
    if os.environ.get("FORCE_CUDA") == "1":
        return [f"forced {os.environ.get('TORCH_CUDA_ARCH_LIST', '')}"]
    return gpu_models() if find_toolkit(os.environ) else []


def is_current(stamp: Path, fingerprint: str, wish: Sequence[str]) -> bool:
    """Whether the stamp is of this fingerprint and made for at least the GPUs wished for.

    At least: a cluster's login node has no GPU and shares the .venv of nodes that have.
    """
    try:
        noted = json.loads(stamp.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return False
    return noted["fingerprint"] == fingerprint and set(wish) <= set(noted["cuda_for"])


def finish(stamp: Path, fingerprint: str, wish: Sequence[str]) -> None:
    """Write the stamp; it appears whole or not at all."""
    whole = json.dumps({"fingerprint": fingerprint, "cuda_for": list(wish)})
    part = stamp.with_suffix(".part")
    part.write_text(whole)
    part.replace(stamp)


def repair(site_packages: Path) -> list[str]:
    """Remove the metadata of packages that are not whole, and the leftovers of broken upgrades.

    pip writes a package's RECORD last and takes a package with metadata for installed, so a kill in
    between would leave a hole that no later pip run fills.

    Returns:
        The names of what was removed.
    """
    broken = [info for info in site_packages.glob("*.dist-info") if not _is_whole(info)]
    leftovers = list(site_packages.glob("~*"))
    for path in broken + leftovers:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return sorted(path.name for path in broken + leftovers)


def _is_whole(dist_info: Path) -> bool:
    """Whether every file that the package's RECORD lists is there in full size."""
    record = dist_info / "RECORD"
    if not record.exists():
        return False
    with record.open(newline="") as lines:
        for name, _, size in csv.reader(lines):
            file = dist_info.parent / name
            if file.suffix == ".pyc":
                continue
            if not file.exists() or (size and file.stat().st_size != int(size)):
                return False
    return True


def main(command: str) -> int:
    """Run one of the commands that the module's docstring lists; gives the exit status."""
    stamp = ROOT / ".venv" / "setup.stamp"
    if command == "repair":
        for name in repair(Path(sysconfig.get_path("purelib"))):
            print(f"half installed, to be installed again: {name}")
    elif command == "finish":
        finish(stamp, fingerprint(ROOT), cuda_wish())
    else:
        return 0 if is_current(stamp, fingerprint(ROOT), cuda_wish()) else 1
    return 0


if __name__ == "__main__":
    if sys.argv[1:] not in (["current"], ["repair"], ["finish"]):
        sys.exit("usage: python -m tools.setup.setup_state {current,repair,finish}")
    sys.exit(main(sys.argv[1]))
