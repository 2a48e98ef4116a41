"""Which operators mmcv is built with, where the build is kept, and how a broken one goes on."""

import json
import sys
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tools.setup import machine, mmcv_wheel
from tools.setup.mmcv_wheel import Operators, choose_operators, serves, wheel_key

GPU = {"torch_cuda": "13.0", "archs": ["9.0", "9.0"], "nvcc": "13.0", "models": ["H200"]}
NO_GPU = {"torch_cuda": "13.0", "archs": [], "nvcc": "13.0", "models": []}


def test_operators_follow_gpu_and_compiler() -> None:
    assert choose_operators({}, **NO_GPU) == Operators("cpu")  # a compiler alone asks for nothing
    assert choose_operators({}, **GPU) == Operators("cuda13.0", ("9.0",))
    listed = {"FORCE_CUDA": "1", "TORCH_CUDA_ARCH_LIST": "9.0;8.0"}
    assert choose_operators(listed, **NO_GPU).name == "cuda13.0-8.0_9.0"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"nvcc": None}, "no CUDA compiler was found: install the CUDA 13.0 toolkit"),
        ({"nvcc": "12.8"}, "nvcc is of CUDA 12.8 and torch of CUDA 13.0"),
        ({"torch_cuda": None}, "this build of torch has no CUDA"),
    ],
)
def test_a_gpu_without_fitting_compiler_is_loud_and_forced_is_an_error(
    change: dict, told: str
) -> None:
    operators = choose_operators({}, **{**GPU, **change})
    assert operators.kind == "cpu"
    assert told in operators.warning
    assert "fails on the GPU" in operators.warning
    with pytest.raises(ValueError, match=told.split(":")[0]):
        choose_operators({"FORCE_CUDA": "1"}, **{**GPU, **change})


def test_a_gpu_that_torch_cannot_use_is_told() -> None:
    operators = choose_operators({}, **{**GPU, "archs": []})
    assert operators.kind == "cpu"
    assert "cannot use the GPU found (H200)" in operators.warning


def test_forcing_without_a_gpu_needs_the_archs() -> None:
    with pytest.raises(ValueError, match=r'TORCH_CUDA_ARCH_LIST="8\.0;9\.0" bash tools/setup\.sh'):
        choose_operators({"FORCE_CUDA": "1"}, **NO_GPU)


def test_each_build_has_a_folder_of_its_own() -> None:
    cpu, gpu = Operators("cpu"), Operators("cuda13.0", ("9.0",))
    keys = {
        wheel_key(version, torch, operators)
        for version in ("2.1.0", "2.2.0")
        for torch in ("2.11.0+cu130", "2.10.0")
        for operators in (cpu, gpu, Operators("cuda13.0", ("8.0", "9.0")))
    }
    assert len(keys) == 12
    cpu_key, gpu_key = (wheel_key("2.1.0", "2.11.0+cu130", kind) for kind in (cpu, gpu))
    assert serves(cpu_key, cpu_key)
    assert serves(gpu_key, cpu_key)  # on a node without GPU that shares .venv with one that has
    assert not serves(cpu_key, gpu_key)
    assert not serves(None, cpu_key)
    assert not serves(wheel_key("2.1.0", "2.10.0", gpu), cpu_key)


def test_the_installed_build_is_known_by_the_folder_it_came_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key = wheel_key("2.1.0", "2.11.0+cu130", Operators("cpu"))
    info = tmp_path / "mmcv-2.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mmcv\nVersion: 2.1.0\n")
    wheel = Path("/a cache") / key / "mmcv-2.1.0-cp311-cp311-linux_x86_64.whl"
    (info / "direct_url.json").write_text(json.dumps({"url": wheel.as_uri()}))  # + is %2B in it
    with monkeypatch.context() as only_this:
        only_this.setattr(sys, "path", [str(tmp_path)])
        assert mmcv_wheel.installed_key() == key
        (info / "direct_url.json").unlink()
        assert mmcv_wheel.installed_key() is None  # from a package index: any build


def test_the_build_environment_decides_for_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_CUDA", "1")
    monkeypatch.setenv("MAX_JOBS", "3")
    env = mmcv_wheel.build_env(Operators("cpu"))
    assert "FORCE_CUDA" not in env
    assert (env["CUDA_VISIBLE_DEVICES"], env["MAX_JOBS"]) == ("", "3")
    env = mmcv_wheel.build_env(Operators("cuda13.0", ("8.0", "9.0")))
    assert (env["FORCE_CUDA"], env["TORCH_CUDA_ARCH_LIST"]) == ("1", "8.0;9.0")


def test_a_broken_build_goes_on_and_is_moved_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def pip_locked(command: str, lock: Path, *options: str) -> None:
        calls.append(f"{command} by {lock.relative_to(machine.ROOT)}")
        (tmp_path / "mmcv-9").mkdir()
        with tarfile.open(house / "build/mmcv-9.tar.gz", "w:gz") as archive:
            archive.add(tmp_path / "mmcv-9", "mmcv-9")

    def pip(*arguments: str, env: object = None) -> None:
        calls.append(arguments[0])
        source = Path(arguments[-1])
        if not (source / "half.o").exists():
            (source / "half.o").touch()
            raise KeyboardInterrupt
        (house / "build/out").mkdir()
        (house / "build/out/mmcv-9-cp311.whl").write_text("wheel")

    house = tmp_path / "house"
    (house / "build").mkdir(parents=True)
    monkeypatch.setattr(mmcv_wheel, "pip", pip)
    monkeypatch.setattr(mmcv_wheel, "pip_locked", pip_locked)
    with pytest.raises(KeyboardInterrupt):
        mmcv_wheel.build(house, "9", Operators("cpu"))
    assert mmcv_wheel.find_wheel(house) is None
    wheel = mmcv_wheel.build(house, "9", Operators("cpu"))
    assert wheel == house / "mmcv-9-cp311.whl"
    assert mmcv_wheel.build(house, "9", Operators("cpu")) == wheel
    assert calls == ["download by tools/setup/locks/mmcv.txt", "wheel", "wheel"]
    assert not (house / "build").exists()


def test_a_kept_wheel_is_used_only_as_it_was_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def pip(*arguments: str, env: object = None) -> None:
        (tmp_path / "build/out").mkdir()
        (tmp_path / "build/out/mmcv-9-cp311.whl").write_text("wheel")

    def build() -> Path:
        (tmp_path / "build/mmcv-9").mkdir(parents=True, exist_ok=True)
        return mmcv_wheel.build(tmp_path, "9", Operators("cpu"))

    monkeypatch.setattr(mmcv_wheel, "pip", pip)
    wheel = build()
    told = "ba59926159d2aa256eb8739b8da7e2b574b960e1202c6d624cbe981cef996c91"
    note = tmp_path / "mmcv-9-cp311.whl.sha256"
    assert note.read_text() == told
    assert mmcv_wheel.find_wheel(tmp_path) == wheel

    wheel.write_text("whee!")  # same size
    assert mmcv_wheel.find_wheel(tmp_path) is None
    assert f"expected {told}: it is not used" in capsys.readouterr().out
    assert build().read_text() == "wheel"  # built again in its place
    note.unlink()
    assert mmcv_wheel.find_wheel(tmp_path) is None


def test_two_setups_at_a_time_build_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builds = []

    def pip(*arguments: str, env: object = None) -> None:
        builds.append(arguments)
        time.sleep(0.2)
        (tmp_path / "build/out").mkdir()
        (tmp_path / "build/out/mmcv-9-cp311.whl").touch()

    (tmp_path / "build/mmcv-9").mkdir(parents=True)
    monkeypatch.setattr(mmcv_wheel, "pip", pip)
    with ThreadPoolExecutor(2) as setups:
        both = [setups.submit(mmcv_wheel.build, tmp_path, "9", Operators("cpu")) for _ in range(2)]
    assert {one.result() for one in both} == {tmp_path / "mmcv-9-cp311.whl"}
    assert len(builds) == 1


def test_a_toolkit_has_a_compiler_and_headers(tmp_path: Path) -> None:
    wrapper, toolkit = tmp_path / "bin/nvcc", tmp_path / "cuda"
    for file in (wrapper, toolkit / "bin/nvcc"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("#!/bin/sh\necho 'Cuda compilation tools, release 13.0, V13.0.88'\n")
        file.chmod(0o755)
    assert machine.find_toolkit({"PATH": str(wrapper.parent)}) != tmp_path  # no headers beside it
    (toolkit / "include").mkdir()
    (toolkit / "include/cuda_runtime.h").touch()
    assert machine.find_toolkit({"PATH": "", "CUDA_HOME": str(toolkit)}) == toolkit
    assert machine.nvcc_version(toolkit) == "13.0"


def test_gpu_models_are_read_from_the_driver(tmp_path: Path) -> None:
    for number, model in enumerate(["NVIDIA H200", "NVIDIA A100", "NVIDIA H200"]):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "information").write_text(f"Model: \t\t {model}\nIRQ:  \t\t 1\n")
    assert machine.gpu_models(tmp_path) == ["NVIDIA A100", "NVIDIA H200"]
