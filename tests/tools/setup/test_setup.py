"""tools/setup.sh as a process, and the Python parts of the set-up one by one."""

import os
import re
import shutil
import stat
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from tools.setup import doctor, machine, setup_state

ROOT = machine.ROOT
GIB = 2**30


# --- tools/setup.sh as a process ---


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "check out"  # a space must not matter
    root.mkdir()
    shutil.copy(ROOT / "pyproject.toml", root)
    shutil.copytree(ROOT / "tools", root / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    return root


def run_setup(root: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {"PATH": os.environ["PATH"], "HOME": str(root), **env}
    command = ["bash", str(root / "tools/setup.sh"), *arguments]
    return subprocess.run(command, env=clean, capture_output=True, text=True, timeout=300)


def fake_venv(root: Path) -> Path:
    """A .venv whose python is ours, notes its calls in calls.txt and refuses to run pip."""
    script(
        root / ".venv/bin/python",
        f'echo "$*" >> "{root}/calls.txt"\n'
        '[[ "$*" == *"-m pip"* || "$*" == *"pip_locked"* ]] && exit 7\n'
        '[[ "$*" == *"setup_state repair"* || "$*" == *"doctor"* ]] && exit 0\n'
        f'exec "{sys.executable}" "$@"',
    )
    (root / ".venv/bin/activate").write_text(f'VIRTUAL_ENV="{root}/.venv"')
    return root / ".venv"


def test_finished_and_unchanged_returns_at_once_and_changed_calls_pip(checkout: Path) -> None:
    venv = fake_venv(checkout)
    setup_state.finish(venv / "setup.stamp", setup_state.fingerprint(checkout), [])
    again = run_setup(checkout)
    assert (again.returncode, again.stdout) == (0, ".venv is up to date\n"), again.stderr
    calls = (checkout / "calls.txt").read_text()
    assert not re.search(r"-m pip|pip_locked", calls) and calls.count("\n") <= 3, calls

    with (checkout / "tools/setup/locks/install.txt").open("a") as lock:
        lock.write("# changed\n")
    changed = run_setup(checkout, PYTHON=str(venv / "bin/python"))
    calls = (checkout / "calls.txt").read_text()
    assert "tools.setup.pip_locked tools/setup/locks/pip.txt --only-binary :all:" in calls
    assert changed.returncode == 1
    assert "exit status 7" in changed.stderr
    assert "it goes on from here" in changed.stderr
    assert not (venv / "setup.stamp").exists()  # undoing the change does not make it whole


def test_a_half_made_venv_is_made_anew(checkout: Path, tmp_path: Path) -> None:
    (checkout / ".venv/bin").mkdir(parents=True)
    (checkout / ".venv/left over").touch()
    python = script(
        tmp_path / "python",
        'case "$*" in\n'
        '  "-c import sys"*) echo "3.11 $0" ;;\n'
        "  *doctor*) ;;\n"
        '  "-m venv"*) [[ ! -e "$3/left over" ]] && echo fresh; exit 9 ;;\n'
        "esac",
    )
    stopped = run_setup(checkout, PYTHON=str(python))
    assert "fresh" in (checkout / ".venv/setup.log").read_text()
    assert "making .venv with Python 3.11: exit status 9" in stopped.stderr


def test_no_compiler_stops_before_anything_is_made(checkout: Path, tmp_path: Path) -> None:
    for tool in ("bash", "dirname", "grep"):
        script(tmp_path / "bin" / tool, f'exec "{shutil.which(tool)}" "$@"')
    stopped = run_setup(checkout, PYTHON=sys.executable, PATH=str(tmp_path / "bin"))
    assert stopped.returncode == 1
    assert "no c++ in PATH" in stopped.stderr
    assert "apt-get install -y build-essential python3-dev" in stopped.stderr
    assert not (checkout / ".venv").exists()


def test_an_unsupported_python_is_named_with_the_mend(checkout: Path, tmp_path: Path) -> None:
    old = script(tmp_path / "python3.9", 'echo "3.9 $0"')
    stopped = run_setup(checkout, PYTHON=str(old))
    assert stopped.returncode == 1
    assert f"found {old} 3.9; expected Python 3.11 or 3.12" in stopped.stderr
    assert "PYTHON=/path/to/python3.11 bash tools/setup.sh" in stopped.stderr
    assert not (checkout / ".venv").exists()


# --- tools/setup.sh --check without .venv ---


@pytest.mark.slow
def test_check_without_a_venv_looks_at_the_python_that_is_named(checkout: Path) -> None:
    """Ours: its packages are there. ROOT's .venv is not this checkout's."""
    told = run_setup(checkout, "--check", PYTHON=sys.executable)
    assert f"ok       environment          {sys.prefix}\n" in told.stdout, told.stderr
    assert f"ok       torch                {metadata.version('torch').split('+')[0]}" in told.stdout
    assert "not installed" not in told.stdout


@pytest.mark.parametrize("named", [True, False])
def test_check_says_in_one_line_that_nothing_is_installed(checkout: Path, named: bool) -> None:
    """``-S``: the same Python without its packages."""
    empty = script(checkout / "python", f'exec "{sys.executable}" -S "$@"')
    told = run_setup(checkout, "--check", **({"PYTHON": str(empty)} if named else {}))
    assert told.returncode == 1 and told.stdout == ""
    where = r"in /\S+" if named else re.escape(f": there is no {checkout}/.venv")
    expected = rf"error: nothing is installed ?{where}; run: bash tools/setup\.sh\n"
    assert re.fullmatch(expected, told.stderr), told.stderr


def test_check_of_a_python_that_is_not_there(checkout: Path) -> None:
    told = run_setup(checkout, "--check", PYTHON="/no/python")
    expected = "error: found no /no/python, which PYTHON names\n"
    assert (told.returncode, told.stderr) == (1, expected)


# --- what goes wrong, and what repairs it ---


def test_too_little_disk_names_free_needed_and_folder(tmp_path: Path) -> None:
    finding = machine.disk_space(tmp_path, 10.5, usage=lambda _: (100 * GIB, 97 * GIB, 3 * GIB))
    assert finding.level == "fault"
    assert finding.found == f"3.0 GiB free in {tmp_path}, needed 10.5 GiB"
    assert machine.disk_space(tmp_path, 3.0, usage=lambda _: (9, 9, 3 * GIB)).level == "ok"


def test_doctor_tells_versions_that_differ_and_that_miss(capsys: pytest.CaptureFixture) -> None:
    there = {"torch": "2.11.0+cu130", "numpy": "1.26.4", "tqdm": "4.70.1"}

    def installed(name: str) -> str:
        if name not in there:
            raise metadata.PackageNotFoundError(name)
        return there[name]

    pins = {"torch": "2.11.0", "numpy": "2.4.6", "mmdet": "3.3.0", "tqdm": "4.70.1", "triton": "3"}
    findings = {finding.what: finding for finding in doctor.versions(pins, installed)}
    assert {what: finding.level for what, finding in findings.items()} == {
        "torch": "ok", "numpy": "warning", "mmdet": "fault"}  # fmt: skip
    assert findings["numpy"].found == "1.26.4, tested with 2.4.6"
    assert doctor.report(findings.values()) == 1
    repair = "repair numpy, mmdet:\n    rm -f .venv/setup.stamp && bash tools/setup.sh\n"
    assert capsys.readouterr().out.endswith(repair)


@pytest.mark.parametrize(
    ("error", "repair"),
    [
        (ModuleNotFoundError("No module named 'mmcv._ext'"), "pip uninstall -y mmcv mmcv-lite"),
        (ImportError("mmcv/_ext.so: undefined symbol: _ZN2at"), "pip uninstall -y mmcv mmcv-lite"),
        (ImportError("libGL.so.1: cannot open shared object file"), "apt-get install -y libgl1"),
        (ModuleNotFoundError("No module named 'mmcv'"), "rm -f .venv/setup.stamp"),
    ],
)
def test_doctor_tells_why_mmcv_does_not_load(error: Exception, repair: str) -> None:
    def load(module: str) -> None:
        raise error

    finding = doctor.loads("mmcv._ext", load)
    assert finding.level == "fault"
    assert str(error) in finding.found
    assert finding.repair.removeprefix(".venv/bin/python -m ").startswith(repair)


def test_repair_removes_only_what_is_not_whole(tmp_path: Path) -> None:
    def package(name: str, record: str | None) -> None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "code.py").write_text("x = 1\n")  # 6 bytes
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        if record is not None:
            (info / "RECORD").write_text(record)

    package("whole", "whole/code.py,sha256=0,6\nwhole/code.pyc,,\nwhole-1.0.dist-info/RECORD,,\n")
    package("killed", None)
    package("missing", "missing/code.py,,6\nmissing/more.py,,10\n")
    package("short", "short/code.py,sha256=0,60\n")
    (tmp_path / "~orch").mkdir()
    removed = ["killed-1.0.dist-info", "missing-1.0.dist-info", "short-1.0.dist-info", "~orch"]
    assert setup_state.repair(tmp_path) == removed
    assert (tmp_path / "whole-1.0.dist-info/RECORD").exists()
    assert (tmp_path / "killed/code.py").exists()


def test_a_stamp_holds_for_the_gpus_it_was_made_for_and_for_none(tmp_path: Path) -> None:
    stamp = tmp_path / "setup.stamp"
    assert not setup_state.is_current(stamp, "f", [])
    setup_state.finish(stamp, "f", ["A100", "H200"])
    assert setup_state.is_current(stamp, "f", ["H200"])
    assert setup_state.is_current(stamp, "f", [])  # a login node
    assert not setup_state.is_current(stamp, "f", ["L40"])
    assert not setup_state.is_current(stamp, "other", ["H200"])
    assert list(tmp_path.iterdir()) == [stamp]
