"""The pinned set: declared, tested, locked with hashes, installed, and pip held to it."""

import functools
import re
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path
from subprocess import CalledProcessError

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.setup import doctor, lock, mmcv_wheel, pip_locked

ROOT = lock.ROOT
LOCKS = (lock.PIP, lock.INSTALL, lock.MMCV, lock.BENCH)
PYTHONS = [(3, 11), (3, 12)]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RENEW = "the locks are stale; run: .venv/bin/python -m tools.setup.lock"


def declared() -> list[Requirement]:
    """What pyproject.toml asks for itself, every extra included."""
    extras = PYPROJECT["project"]["optional-dependencies"].values()
    lines = [*PYPROJECT["project"]["dependencies"], *(line for extra in extras for line in extra)]
    return [Requirement(line) for line in lines]


@functools.cache
def locked_requirements() -> list[tuple[Path, Requirement, list[str]]]:
    """File, requirement and digests of every entry of the locks."""
    entries = []
    for file in LOCKS:
        for entry in file.read_text().replace("\\\n", " ").splitlines():
            if entry and not entry.lstrip().startswith("#"):
                line, *hashes = entry.split(" --hash=")
                entries.append((file, Requirement(line), [digest.strip() for digest in hashes]))
    return entries


@functools.cache
def locked(python: tuple[int, int]) -> dict[str, str]:
    """Name -> locked version on a Python, by packaging's own reading of the markers."""
    version = ".".join(map(str, python))
    machine = {"python_version": version, "python_full_version": f"{version}.7"}
    return {
        need.name: str(need.specifier).removeprefix("==")
        for _, need, _ in locked_requirements()
        if need.marker is None or need.marker.evaluate(machine)
    }


@pytest.mark.parametrize("python", PYTHONS)
def test_locks_follow_pyproject_and_constraints(python: tuple[int, int]) -> None:
    tested = doctor.read_pins((ROOT / "constraints.txt").read_text(), python)
    assert tested.keys() == {need.name for need in declared()}
    for need in declared():
        assert tested[need.name] in need.specifier, need
        assert locked(python)[need.name] == tested[need.name], RENEW


@pytest.mark.parametrize("python", PYTHONS)
def test_doctor_reads_a_lock_as_packaging_does(python: tuple[int, int]) -> None:
    text = "\n".join(file.read_text() for file in LOCKS)
    assert doctor.read_pins(text, python) == locked(python)
    assert mmcv_wheel.pinned_version() == locked(python)["mmcv"]


def test_every_locked_package_has_hashes_and_no_address() -> None:
    entries = locked_requirements()
    assert len(entries) > 100
    for file, need, hashes in entries:
        assert re.fullmatch(r"==[\w.]+", str(need.specifier)), need
        assert hashes, f"{file.name}: {need.name} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest) for digest in hashes)
    for file in (*LOCKS, ROOT / "constraints.txt"):
        assert not re.search(r"://|^-|@|/home|/root", file.read_text(), re.MULTILINE), file
    pip, install, mmcv, bench = (set(lock.names(file)) for file in LOCKS)
    assert (pip, mmcv) == ({"pip"}, {"mmcv"})
    assert not install & (pip | mmcv | bench)
    assert "lightly" in bench


def test_what_is_installed_is_what_is_locked() -> None:
    """Follows the requirements of what is here, from the project's own on."""
    dropped = {Requirement(line).name for line in PYPROJECT["tool"]["uv"]["override-dependencies"]}
    pins = locked(sys.version_info[:2])
    needs, found = declared(), {}
    while needs:
        need = needs.pop()
        name = canonicalize_name(need.name)
        if name in found or name in dropped or (need.marker and not need.marker.evaluate()):
            continue
        try:
            dist = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        found[name] = dist.version.split("+")[0]
        needs += [Requirement(line) for line in dist.requires or [] if "extra ==" not in line]
    assert {"torch", "mmcv", "shapely", "numpy"} <= found.keys()
    assert {name: pins.get(name) for name in found} == found


def test_core_is_free_of_mmdet() -> None:
    core = {Requirement(line).name for line in PYPROJECT["project"]["dependencies"]}
    assert not {"mmdet", "mmcv", "mmcv-lite", "mmcv-full"} & core


def test_pins_follow_the_python_version() -> None:
    text = (
        'numpy==2.4 ; python_version >= "3.11"  # 3.10 < 3.11\n'
        'numpy==2.2 ; python_version < "3.11"\n'
        "old==1 ; python_full_version >= '3.11' and python_full_version < '3.12' \\\n"
        "    --hash=sha256:00\n"
        "a-b==1"
    )
    assert doctor.read_pins(text, (3, 10)) == {"numpy": "2.2", "a-b": "1"}
    assert doctor.read_pins(text, (3, 11)) == {"numpy": "2.4", "old": "1", "a-b": "1"}
    assert doctor.read_pins(text, (3, 12)) == {"numpy": "2.4", "a-b": "1"}


# --- pip, held to a lock ---

GENUINE = "print('genuine')\n"


def shelf(folder: Path, code: str = GENUINE) -> Path:
    """A folder with the one wheel ``parcel-1.0``; the same code gives the same bytes."""
    folder.mkdir(exist_ok=True)
    files = {
        "parcel.py": code,
        "parcel-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: parcel\nVersion: 1.0\n",
        "parcel-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nTag: py3-none-any\n",
        "parcel-1.0.dist-info/RECORD": "",
    }
    with zipfile.ZipFile(folder / "parcel-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(zipfile.ZipInfo(name), text)
    return folder


def parcel_lock(tmp_path: Path) -> Path:
    digest = mmcv_wheel.sha256(shelf(tmp_path / "genuine") / "parcel-1.0-py3-none-any.whl")
    file = tmp_path / "parcel.txt"
    file.write_text(
        f"parcel==1.0 \\\n    --hash=sha256:{'0' * 64} \\\n    --hash=sha256:{digest}\n"
    )
    return file


def test_a_file_with_another_hash_is_refused_and_named(tmp_path: Path) -> None:
    lock_file, out = parcel_lock(tmp_path), tmp_path / "out"
    offline = ["--no-index", "--dest", str(out), "--find-links"]
    pip_locked.pip_locked("download", lock_file, *offline, str(tmp_path / "genuine"))
    assert [path.name for path in out.iterdir()] == ["parcel-1.0-py3-none-any.whl"]
    (out / "parcel-1.0-py3-none-any.whl").unlink()

    other = shelf(tmp_path / "other", "print('other')\n")
    digest = mmcv_wheel.sha256(other / "parcel-1.0-py3-none-any.whl")
    with pytest.raises(pip_locked.TamperedError) as refused:
        pip_locked.pip_locked("download", lock_file, *offline, str(other), pause_s=0)
    told = str(refused.value)
    assert "parcel==1.0 is not the file that was tested" in told
    assert f"found     sha256 {digest}" in told
    assert f"expected  one of the 2 listed in {lock_file}" in told
    assert "-m pip cache remove 'parcel'" in told
    assert not list(out.iterdir())


def test_what_a_lock_does_not_hash_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pip_locked, "TRIES", 1)
    unhashed = tmp_path / "unhashed.txt"
    unhashed.write_text("parcel==1.0\n")
    options = ["--no-index", "--find-links", str(shelf(tmp_path / "genuine"))]
    with pytest.raises(CalledProcessError):
        pip_locked.pip_locked("download", unhashed, *options, "--dest", str(tmp_path / "out"))
    assert "Hashes are required in --require-hashes mode" in capfd.readouterr().out
    assert not list((tmp_path / "out").glob("*"))


def test_a_failing_network_is_tried_three_times(monkeypatch: pytest.MonkeyPatch) -> None:
    results = [(2, ["ReadTimeoutError\n"]), (2, ["ReadTimeoutError\n"]), (0, [])]
    pauses: list[float] = []
    monkeypatch.setattr(pip_locked, "_run", lambda command: results.pop(0))
    monkeypatch.setattr(pip_locked.time, "sleep", pauses.append)
    pip_locked.pip_locked("install", lock.INSTALL)
    assert (results, pauses) == ([], [10.0, 20.0])

    results = [(2, [])] * 4
    with pytest.raises(CalledProcessError, match="exit status 2"):
        pip_locked.pip_locked("install", lock.INSTALL)
    assert len(results) == 1


# --- the reasons, and the checks before a commit ---


def test_every_direct_dependency_has_its_reason() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    with_reason = re.findall(r"^\| `([\w.-]+)` \| \w.+ \|$", text, re.MULTILINE)
    assert with_reason == [need.name for need in declared()]


def test_what_is_said_of_unreached_code_holds() -> None:
    """CONTRIBUTING.md ignores vulnerabilities of code that, it says, is never called."""
    unreached = re.compile(
        r"torch\.jit|torch\.export\.load|joblib|SyncNormHook|mmdet.*all_reduce_dict"
    )
    for folder in ("pretrain", "transfer", "results", "configs", "tools"):
        for file in (ROOT / folder).rglob("*.py"):
            assert not unreached.search(file.read_text()), file


def test_the_checks_before_a_commit_are_those_of_the_tests_with_the_pinned_tools() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [(repo["repo"], hook) for repo in config["repos"] for hook in repo["hooks"]]
    before_commit = {
        hook["entry"].removeprefix(".venv/bin/").replace(" --force-exclude", "")
        for repo, hook in hooks
        if repo == "local" and hook["language"] == "system"
    }
    assert len(before_commit) == len(hooks), "a hook brings a version of its own"
    checks = re.findall(r"^check (.+)$", (ROOT / "tools/test.sh").read_text(), re.MULTILINE)
    assert before_commit == {check.replace("format --check", "format") for check in checks}
