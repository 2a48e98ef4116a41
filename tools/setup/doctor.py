"""Says what is wrong with the machine or with .venv, and the command that repairs it.

usage: python -m tools.setup.doctor [--preflight]
    (nothing)     what is installed, against tools/setup/locks/, and whether it loads
    --preflight   whether a set-up can succeed on this machine; faults only, within a second
Exit status 1 if something keeps the project from running, or from being set up.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import importlib.util
import os
import re
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from tools.setup.machine import (
    OPENCV_LIBRARIES,
    ROOT,
    Finding,
    compiler,
    disk_space,
    find_toolkit,
    gpu_models,
    nvcc_version,
    preflight,
    python_headers,
    python_version,
)

AGAIN = "rm -f .venv/setup.stamp && bash tools/setup.sh"
IMPORTS = (
    *("torch", "torchvision", "mmengine", "numpy", "pycocotools.mask", "cv2", "mmcv.ops"),
    *("mmdet", "cityscapesscripts"),
)
PACKAGES = (
    *("torch", "torchvision", "mmengine", "mmdet", "mmcv", "numpy", "pycocotools"),
    *("cityscapesscripts", "opencv-python"),
)


def check() -> Iterator[Finding]:
    """What is installed, and whether it loads."""
    yield python_version()
    yield Finding("environment", sys.prefix)
    yield from versions(locked_versions())
    yield project()
    yield from (loads(module) for module in IMPORTS)
    yield from cuda()
    for finding in (compiler(os.environ), python_headers(Path(sysconfig.get_path("include")))):
        level = "warning" if finding.level == "fault" else finding.level  # needed to build only
        yield dataclasses.replace(finding, level=level)
    yield disk_space(ROOT, need_gib=1.0)


def locked_versions(python: tuple[int, ...] = sys.version_info[:2]) -> dict[str, str]:
    """The versions that a set-up installs on this Python, by name."""
    locks = [ROOT / "tools/setup/locks" / f"{name}.txt" for name in ("pip", "install", "mmcv")]
    return read_pins("\n".join(lock.read_text() for lock in locks), python)


def read_pins(text: str, python: tuple[int, ...] = sys.version_info[:2]) -> dict[str, str]:
    """The versions of constraints.txt or of a lock that hold for this Python, by name."""
    pins = {}
    bound = re.compile(r"""python(?:_full)?_version *(<|>=) *['"](\d+)\.(\d+)""")
    for name, version, marker in re.findall(r"^([\w.-]+)==(\S+)(.*)", text, re.MULTILINE):
        bounds = bound.findall(marker.split("#")[0])
        if all((python < (int(a), int(b))) == (sign == "<") for sign, a, b in bounds):
            pins[name] = version
    return pins


def versions(
    pins: Mapping[str, str], installed: Callable[[str], str] = importlib.metadata.version
) -> Iterator[Finding]:
    """The installed versions against the pinned ones; of the lesser packages only what differs."""
    for name, pinned in pins.items():
        try:
            found = installed(name).split("+")[0]  # 2.11.0+cu130 is 2.11.0 in another build
        except importlib.metadata.PackageNotFoundError:
            if name in PACKAGES:
                yield Finding(name, f"not installed, expected {pinned}", "fault", AGAIN)
            continue
        if found != pinned:
            yield Finding(name, f"{found}, tested with {pinned}", "warning", AGAIN)
        elif name in PACKAGES:
            yield Finding(name, found)


def project(find: Callable[[str], object] = importlib.util.find_spec) -> Finding:
    """Whether this checkout's packages can be found from anywhere."""
    missing = [name for name in ("pretrain", "transfer", "results") if find(name) is None]
    if not missing:
        return Finding("loco-transfer", "installed")
    return Finding("loco-transfer", f"no package {missing[0]}", "fault", AGAIN)


def loads(module: str, load: Callable[[str], object] = importlib.import_module) -> Finding:
    """Whether a module can be imported, and what is the matter if not."""
    try:
        load(module)
    except Exception as error:  # a broken library may raise anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        repair = AGAIN
        if re.search(r"libGL\.so|libgthread|libglib", reason):  # cv2's, which mmcv imports too
            repair = OPENCV_LIBRARIES
        elif "mmcv._ext" in reason or "undefined symbol" in reason:
            reason = f"no compiled operators that fit this torch ({reason})"
            repair = f".venv/bin/python -m pip uninstall -y mmcv mmcv-lite; {AGAIN}"
        return Finding(f"import {module}", reason, "fault", repair)
    return Finding(f"import {module}", "works")


def cuda() -> Iterator[Finding]:
    """GPUs, the CUDA compiler, and whether mmcv's operators run on the GPU."""
    nvcc = nvcc_version(find_toolkit(os.environ))
    yield Finding("CUDA compiler", nvcc or "none (needed to build CUDA operators only)")
    if any(loads(module).level == "fault" for module in ("torch", "mmcv.ops")):
        return  # told by the imports above
    import torch
    from mmcv.ops import get_compiling_cuda_version, nms

    built = get_compiling_cuda_version()
    operators = "CPU only" if built == "not available" else f"CPU and CUDA {built}"
    if not torch.cuda.is_available():
        unused = [*gpu_models()]
        found = f"torch cannot use {', '.join(unused)}" if unused else "none: runs on the CPU"
        repair = f"update the NVIDIA driver to one for CUDA {torch.version.cuda}" if unused else ""
        yield Finding("GPU", found, "warning" if unused else "ok", repair)
        yield Finding("mmcv's operators", operators)
        return
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    yield Finding("GPU", f"{len(names)}: {', '.join(sorted(set(names)))}")
    try:
        box = torch.tensor([[0.0, 0.0, 1.0, 1.0]], device="cuda")
        nms(box, box.new_ones(1), 0.5)
    except RuntimeError as error:
        reason = f"do not run on the GPU ({operators}; {error})".splitlines()[0]
        repair = f"install the CUDA {torch.version.cuda} toolkit (nvcc), then: {AGAIN}"
        yield Finding("mmcv's operators", reason, "warning", repair)
    else:
        yield Finding("mmcv's operators", f"run on the GPU ({operators})")


def report(findings: Iterable[Finding], *, faults_only: bool = False) -> int:
    """Print the table, then each repair with what it is for; gives the exit status."""
    levels = set()
    repairs: dict[str, list[str]] = {}
    for finding in findings:
        if faults_only and finding.level != "fault":
            continue
        sign = {"ok": "ok", "warning": "WARNING", "fault": "FAULT"}[finding.level]
        print(f"{sign:8} {finding.what:20} {finding.found}", flush=True)
        levels.add(finding.level)
        if finding.repair:
            repairs.setdefault(finding.repair, []).append(finding.what)
    for repair, causes in repairs.items():
        print(f"repair {', '.join(causes)}:\n    {repair}")
    return int("fault" in levels)


if __name__ == "__main__":
    if sys.argv[1:] not in ([], ["--preflight"]):
        sys.exit("usage: python -m tools.setup.doctor [--preflight]")
    early = bool(sys.argv[1:])
    if not early and not any(map(importlib.util.find_spec, ("torch", "mmengine", "mmdet"))):
        sys.exit(f"error: nothing is installed in {sys.prefix}; run: bash tools/setup.sh")
    sys.exit(report(preflight() if early else check(), faults_only=early))
