"""Writes tools/setup/locks/: every package of the tested set with the sha256 of each of its files.

usage: .venv/bin/python -m tools.setup.lock [OPTIONS OF uv pip compile]
    (nothing)                   follow pyproject.toml and constraints.txt; keep all other versions
    --upgrade-package NAME      bring one package that others need up to date
    --upgrade                   bring all of them up to date

tools/setup.sh installs pip.txt, then install.txt, and builds the source in mmcv.txt; bench.txt is
what the extra ``bench`` adds. They hold for Linux and every Python that pyproject.toml allows.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tools.setup.machine import ROOT

LOCKS = ROOT / "tools/setup/locks"
PIP, INSTALL, MMCV, BENCH = (LOCKS / f"{name}.txt" for name in ("pip", "install", "mmcv", "bench"))


def names(lock: Path) -> list[str]:
    """The packages that a lock names, in its order."""
    return re.findall(r"^([\w.-]+)==", lock.read_text(), re.MULTILINE)


def main(options: list[str]) -> None:
    """Write the files; each is resolved with its own former versions preferred."""
    extras = ["--extra", "transfer", "--extra", "dev", "--extra", "build"]
    compile_lock(PIP, "-", "--no-deps", *options, stdin="pip\n")
    compile_lock(MMCV, "-", "--no-deps", *options, stdin="mmcv\n")
    compile_lock(INSTALL, "pyproject.toml", *extras, *without(["mmcv", "pip"]), *options)
    locked = ["-c", str(INSTALL.relative_to(ROOT)), *without([*names(INSTALL), "mmcv", "pip"])]
    compile_lock(BENCH, "pyproject.toml", *extras, "--extra", "bench", *locked, *options)


def without(packages: list[str]) -> list[str]:
    """The options that resolve these packages too, but leave them out of the file."""
    return [word for name in packages for word in ("--no-emit-package", name)]


def compile_lock(lock: Path, source: str, *options: str, stdin: str = "") -> None:
    """One run of uv, which leaves the file as it was if it fails."""
    command = [str(Path(sys.executable).with_name("uv")), "pip", "compile", source, *options,
               "-c", "constraints.txt", "--build-constraint", "constraints.txt",
               "--universal", "--python-version", "3.11", "--generate-hashes", "--quiet",
               "--custom-compile-command", "python -m tools.setup.lock",
               "--output-file", str(lock.relative_to(ROOT))]  # fmt: skip
    subprocess.run(command, check=True, cwd=ROOT, input=stdin, text=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except FileNotFoundError as error:
        sys.exit(f"error: no {error.filename}; run: bash tools/setup.sh")
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: uv exited with {error.returncode}; repair what it names, then try again")
