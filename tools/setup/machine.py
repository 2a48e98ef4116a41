"""What this machine has, and what it lacks for a set-up; nothing here needs .venv."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV_GIB = 6.0  # .venv when whole (measured: 5.4), mostly torch's CUDA libraries
DOWNLOADS_GIB = 2.0  # what pip unpacks it from, in .venv/tmp for a while (measured: 1.7)
CACHE_GIB = 4.0  # pip's copy of the downloads, and mmcv's build (measured: 0.3 for the CPU)
BUILD_TOOLS = "apt-get install -y build-essential python3-dev"
OPENCV_LIBRARIES = "apt-get install -y libgl1 libglib2.0-0"


@dataclass(frozen=True)
class Finding:
    """One line of the table. A fault keeps the project from running, a warning does not."""

    what: str
    found: str
    level: str = "ok"  # "ok", "warning" or "fault"
    repair: str = ""


def preflight() -> Iterator[Finding]:
    """What a set-up needs before it begins."""
    yield python_version()
    yield venv_module()
    yield compiler(os.environ)
    yield python_headers(Path(sysconfig.get_path("include")))
    yield opencv_libraries()
    missing_gib = max(0.0, VENV_GIB - folder_bytes(ROOT / ".venv") / 2**30)
    root_gib = missing_gib + DOWNLOADS_GIB * missing_gib / VENV_GIB
    cache = existing_parent(cache_root(os.environ))
    if cache.stat().st_dev == ROOT.stat().st_dev:
        yield disk_space(ROOT, root_gib + CACHE_GIB)
    else:
        yield disk_space(ROOT, root_gib)
        yield disk_space(cache, CACHE_GIB)


def python_version(version: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    """Python 3.11 or 3.12."""
    found = ".".join(map(str, version))
    if (3, 11) <= version[:2] <= (3, 12):
        return Finding("python", found)
    repair = "PYTHON=/path/to/python3.11 bash tools/setup.sh"
    return Finding("python", f"{found}, expected 3.11 or 3.12", "fault", repair)


def venv_module() -> Finding:
    """Python's own venv and ensurepip, which Debian packs apart."""
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if not missing:
        return Finding("venv module", "there")
    return Finding("venv module", f"no {missing[0]}", "fault", "apt-get install -y python3-venv")


def compiler(env: Mapping[str, str]) -> Finding:
    """The C++ compiler that torch's build helpers call."""
    name = env.get("CXX", "c++")
    if path := shutil.which(name.split()[0], path=env.get("PATH")):
        return Finding("C++ compiler", path)
    return Finding("C++ compiler", f"no {name} in PATH, mmcv needs one", "fault", BUILD_TOOLS)


def python_headers(include: Path) -> Finding:
    """Python.h, for compiled extensions."""
    header = include / "Python.h"
    if header.exists():
        return Finding("Python.h", str(header))
    return Finding("Python.h", f"no {header}, mmcv needs it", "fault", BUILD_TOOLS)


def opencv_libraries(load: Callable[[str], object] = ctypes.CDLL) -> Finding:
    """The system libraries that opencv-python links to and does not bring."""
    missing = []
    for name in ("libGL.so.1", "libgthread-2.0.so.0"):
        try:
            load(name)
        except OSError:
            missing.append(name)
    if not missing:
        return Finding("opencv's libraries", "there")
    found = f"no {' and no '.join(missing)}"
    return Finding("opencv's libraries", found, "fault", OPENCV_LIBRARIES)


def disk_space(
    folder: Path, need_gib: float, usage: Callable[[Path], tuple[int, int, int]] = shutil.disk_usage
) -> Finding:
    """Free space where ``folder`` is, against what is needed."""
    free_gib = usage(folder)[2] / 2**30
    found = f"{free_gib:.1f} GiB free in {folder}"
    if free_gib >= need_gib:
        return Finding("disk", found)
    repair = "free some, or put the checkout on a larger disk"
    return Finding("disk", f"{found}, needed {need_gib:.1f} GiB", "fault", repair)


def cache_root(env: Mapping[str, str]) -> Path:
    """Where built wheels are kept, shared by all checkouts of one user."""
    return Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "loco-transfer" / "wheels"


def existing_parent(folder: Path) -> Path:
    """The folder itself, or the nearest above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below; 0 if there is no such folder."""
    walk = os.walk(folder)
    return sum(
        os.lstat(os.path.join(top, name)).st_size for top, _, names in walk for name in names
    )


def find_toolkit(env: Mapping[str, str]) -> Path | None:
    """The folder of a CUDA toolkit: it has to hold the compiler and the headers."""
    on_path = shutil.which("nvcc", path=env.get("PATH"))
    for place in (
        env.get("CUDA_HOME"),
        env.get("CUDA_PATH"),
        on_path and Path(on_path).resolve().parent.parent,
        "/usr/local/cuda",
    ):
        parts = ("bin/nvcc", "include/cuda_runtime.h")
        if place and all(Path(place, part).exists() for part in parts):
            return Path(place)
    return None


def nvcc_version(toolkit: Path | None) -> str | None:
    """The release of the toolkit's compiler, e.g. ``13.0``."""
    if toolkit is None:
        return None
    told = subprocess.run([toolkit / "bin/nvcc", "--version"], capture_output=True, text=True)
    match = re.search(r"release (\d+\.\d+)", told.stdout)
    return match[1] if match else None


def gpu_models(driver: Path = Path("/proc/driver/nvidia/gpus")) -> list[str]:
    """The distinct GPU models that the NVIDIA driver knows, without loading torch."""
    texts = [path.read_text() for path in driver.glob("*/information")]
    return sorted({match[1] for text in texts if (match := re.search(r"Model:\s*(.+)", text))})
