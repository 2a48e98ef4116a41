"""mmcv's compiled operators: which kind this machine needs, built once, kept in a cache.

mmcv 2.1.0 is published as source only, and its CPU and CUDA builds have the same wheel name. So
each build is kept in a folder of its own, named after everything that it depends on, and installed
from there by path. It is built inside the unpacked source, where ninja continues after a break.
The source has to have the sha256 of locks/mmcv.txt, a kept wheel the one noted when it was built.

usage: python -m tools.setup.mmcv_wheel {plan,install}   (the Python of .venv, once torch is in it)
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from results.record.files import take_lock
from tools.setup.machine import ROOT, cache_root, find_toolkit, gpu_models, nvcc_version
from tools.setup.pip_locked import pip_locked

LOCK = ROOT / "tools/setup/locks" / "mmcv.txt"
JOB_MEMORY_GIB = {"cpu": 2, "cuda": 4}  # one compiler, with room to spare


@dataclass(frozen=True)
class Operators:
    """What to build: ``cpu``, or ``cuda<version>`` for the listed generations of GPUs."""

    kind: str  # "cpu" or "cuda13.0"
    archs: tuple[str, ...] = ()  # compute capabilities, "9.0"
    warning: str = ""

    @property
    def name(self) -> str:
        """``cpu`` or ``cuda13.0-8.0_9.0``."""
        return "-".join([self.kind, "_".join(self.archs)]).rstrip("-")


def main(command: str) -> None:
    """Tell what will be done (``plan``) or do it (``install``)."""
    import torch

    usable = [torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())]
    operators = choose_operators(
        os.environ,
        torch_cuda=torch.version.cuda,
        archs=[f"{major}.{minor}" for major, minor in usable],
        nvcc=nvcc_version(find_toolkit(os.environ)),
        models=gpu_models(),
    )
    version = pinned_version()
    house = cache_root(os.environ) / wheel_key(version, str(torch.__version__), operators)
    installed = serves(installed_key(), house.name)
    if command == "plan":
        if operators.warning:
            print(f"WARNING: {operators.warning}", file=sys.stderr)
        takes = "12 minutes on 2 cores" if operators.kind == "cpu" else "an hour on 2 cores"
        ready = f"to be built, about {takes}"
        if installed:
            ready = "installed"
        elif find_wheel(house):
            ready = "in the cache"
        print(f"mmcv {version} with {operators.name} operators: {ready}")
    elif not installed:
        wheel = find_wheel(house) or build(house, version, operators)
        pip("install", "--no-deps", "--force-reinstall", str(wheel))


def choose_operators(
    env: Mapping[str, str],
    *,
    torch_cuda: str | None,
    archs: Sequence[str],
    nvcc: str | None,
    models: Sequence[str],
) -> Operators:
    """CUDA operators where torch can use a GPU and a fitting compiler is there, else CPU ones.

    Args:
        env: ``FORCE_CUDA=1`` asks for CUDA operators without a GPU too; ``TORCH_CUDA_ARCH_LIST``
            says for which GPUs.
        torch_cuda: CUDA version that torch was built for.
        archs: compute capabilities of the GPUs that torch can use.
        nvcc: version of the CUDA compiler.
        models: names of the GPUs that the driver knows.

    Raises:
        ValueError: CUDA operators were forced and cannot be built.
    """
    forced = env.get("FORCE_CUDA") == "1"
    if not archs and not forced:
        unusable = (
            f"torch (CUDA {torch_cuda}) cannot use the GPU found ({', '.join(models)}), so mmcv "
            "gets CPU operators. Update the NVIDIA driver or unset CUDA_VISIBLE_DEVICES, "
            "then again: bash tools/setup.sh"
        )
        return Operators("cpu", warning=unusable if models else "")
    problem = ""
    if torch_cuda is None:
        problem = "this build of torch has no CUDA: install one that has"
    elif nvcc is None:
        problem = (
            f"no CUDA compiler was found: install the CUDA {torch_cuda} toolkit or set CUDA_HOME"
        )
    elif nvcc.split(".")[0] != torch_cuda.split(".")[0]:
        problem = (
            f"nvcc is of CUDA {nvcc} and torch of CUDA {torch_cuda}: "
            f"set CUDA_HOME to a CUDA {torch_cuda} toolkit"
        )
    if problem and forced:
        raise ValueError(f"FORCE_CUDA=1, but {problem}")
    if problem:
        cost = "Until then mmcv has CPU operators only and detection fails on the GPU"
        return Operators("cpu", warning=f"A GPU IS HERE, BUT {problem}. {cost}")
    listed = env.get("TORCH_CUDA_ARCH_LIST", "").replace(";", " ").split()
    if not (listed or archs):
        raise ValueError(
            "FORCE_CUDA=1 without a GPU has to say for which ones, e.g. "
            'FORCE_CUDA=1 TORCH_CUDA_ARCH_LIST="8.0;9.0" bash tools/setup.sh'
        )
    return Operators(f"cuda{torch_cuda}", tuple(sorted(set(listed or archs))))


def pinned_version(lock: Path = LOCK) -> str:
    """The version of mmcv that the lock names."""
    match = re.search(r"^mmcv==(\S+)", lock.read_text(), re.MULTILINE)
    if match is None:
        raise ValueError(f"{lock}: found no line mmcv==VERSION; run: git restore tools/setup/locks")
    return match[1]


def wheel_key(version: str, torch_version: str, operators: Operators) -> str:
    """The folder name of a build: two builds that could not replace each other differ in it."""
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    parts = [f"mmcv{version}", f"torch{torch_version}", operators.name, python]
    return "-".join([*parts, sysconfig.get_platform()])


def find_wheel(house: Path) -> Path | None:
    """The finished wheel of a cache folder, if it is there and as it was when it was built."""
    for wheel in house.glob("mmcv-*.whl"):
        note = digest_note(wheel)
        noted = note.read_text() if note.exists() else f"the one in {note.name}, which is missing"
        found = sha256(wheel)
        if found == noted:
            return wheel
        print(f"{wheel}: found sha256 {found}, expected {noted}: it is not used")
    return None


def digest_note(wheel: Path) -> Path:
    """The file beside a wheel that keeps its sha256."""
    return wheel.with_suffix(".whl.sha256")


def sha256(file: Path) -> str:
    """The file's digest, in hexadecimal digits."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def installed_key() -> str | None:
    """The cache folder that the installed mmcv came from; pip notes it beside the package."""
    try:
        note = importlib.metadata.distribution("mmcv").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return None
    return Path(unquote(json.loads(note)["url"])).parent.name if note else None


def serves(installed: str | None, wanted: str) -> bool:
    """Whether the installed build will do: CUDA builds hold the CPU operators too.

    So a machine without a GPU (a cluster's login node) leaves a shared .venv's CUDA build alone.
    """
    before, cpu, after = wanted.partition("-cpu-")
    same_but_cuda = rf"{re.escape(before)}-cuda\S+-{re.escape(after)}"
    return installed == wanted or bool(cpu and installed and re.fullmatch(same_but_cuda, installed))


def build(house: Path, version: str, operators: Operators) -> Path:
    """Build the wheel, or continue a build that broke off, and move it into ``house``."""
    house.mkdir(parents=True, exist_ok=True)
    work = house / "build"
    print(f"taking {house / 'lock'}: another set-up may be building this wheel", flush=True)
    with take_lock(house / "lock", wait=True):
        if wheel := find_wheel(house):
            return wheel
        source = work / f"mmcv-{version}"
        if not source.exists():
            fetch_source(work, version)
        pip("wheel", "-v", "--no-deps", "--no-build-isolation", "--use-pep517",
            "--wheel-dir", str(work / "out"), str(source), env=build_env(operators))  # fmt: skip
        (built,) = (work / "out").glob("mmcv-*.whl")
        wheel = house / built.name
        digest_note(wheel).write_text(sha256(built))
        built.replace(wheel)
        shutil.rmtree(work)
    return wheel


def fetch_source(work: Path, version: str) -> None:
    """Download and unpack mmcv's source; ``work/mmcv-VERSION`` appears when it is whole."""
    pip_locked("download", LOCK, "--no-build-isolation", "--no-binary", "mmcv", "--use-pep517",
               "--dest", str(work))  # fmt: skip
    unpacking = work / "unpacking"
    shutil.rmtree(unpacking, ignore_errors=True)
    shutil.unpack_archive(work / f"mmcv-{version}.tar.gz", unpacking)
    (unpacking / f"mmcv-{version}").rename(work / f"mmcv-{version}")


def build_env(operators: Operators) -> dict[str, str]:
    """The environment of the build: mmcv's setup decides by it, not by what it finds."""
    env = {**os.environ, "MMCV_WITH_OPS": "1"}
    env.setdefault("MAX_JOBS", str(parallel_jobs(operators)))
    if operators.kind == "cpu":
        env.pop("FORCE_CUDA", None)
        return {**env, "CUDA_VISIBLE_DEVICES": ""}
    arch_list = ";".join(operators.archs)
    toolkit = str(find_toolkit(os.environ))
    return {**env, "FORCE_CUDA": "1", "TORCH_CUDA_ARCH_LIST": arch_list, "CUDA_HOME": toolkit}


def parallel_jobs(operators: Operators) -> int:
    """As many compilers as there are cores, but no more than memory holds."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    per_job = JOB_MEMORY_GIB["cpu" if operators.kind == "cpu" else "cuda"]
    return max(1, min(len(os.sched_getaffinity(0)), int(memory_gib / per_job)))


def pip(*arguments: str, env: Mapping[str, str] | None = None) -> None:
    """Run this Python's pip; its output goes where ours goes."""
    subprocess.run([sys.executable, "-m", "pip", *arguments], check=True, env=env)


if __name__ == "__main__":
    if sys.argv[1:] not in (["plan"], ["install"]):
        sys.exit("usage: python -m tools.setup.mmcv_wheel {plan,install}")
    try:
        main(sys.argv[1])
    except ValueError as error:
        sys.exit(f"error: {error}")
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: pip {error.cmd[3]} exited with {error.returncode}")
