"""tools/measure.py: it finds its measurements, and the footprint's report says what it ran."""

import importlib
import json
import shutil
import sys
from pathlib import Path

import pytest

from tools.measure import __main__ as measure
from tools.measure import footprint as measure_footprint


@pytest.mark.parametrize("name", measure.MEASUREMENTS)
def test_every_measurement_has_a_module_and_asks_for_a_file(name, capsys):
    assert importlib.import_module(f"tools.measure.{name}").__doc__
    with pytest.raises(SystemExit):
        measure.main([name])
    assert "--json" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["speed", "--json", "x.json"], []])
def test_an_unknown_measurement_is_refused_with_those_that_there_are(arguments, capsys):
    with pytest.raises(SystemExit):
        measure.main(arguments)
    told = capsys.readouterr()
    assert "NAME" in told.err
    assert not arguments or all(name in told.err for name in ("speed", *measure.MEASUREMENTS))


def test_every_module_of_a_measurement_is_listed():
    tools = Path(measure.__file__).parent
    found = {file.stem for file in tools.glob("*.py") if "\ndef measure(" in file.read_text()}
    assert found == set(measure.MEASUREMENTS)


def test_what_is_run_on_which_machine():
    assert measure_footprint.ENCODERS == ("resnet50", "presnet50")
    on_gpu = measure_footprint.settings(cuda=True)
    assert [setting[-1] for setting in on_gpu] == ["float32", "bfloat16"]
    assert all(setting[:2] == ["--batch-size", "256"] for setting in on_gpu)
    (on_cpu,) = measure_footprint.settings(cuda=False)
    assert on_cpu == ["--batch-size", "64", "--measure-batch-size", "8"]


@pytest.mark.slow
def test_the_footprint_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(measure_footprint, "settings", lambda cuda: [["--batch-size", "8"]])
    file = tmp_path / "out" / "measured.json"
    command = ["footprint", "--json", str(file), "--encoders", "resnet_tiny", "--image-size", "64",
               "--repeats", "1", "--recompute", "res2"]  # fmt: skip
    measure.main(command)
    result = json.loads(file.read_text())
    assert result["command"] == " ".join(["python tools/measure.py", *command])
    assert result.keys() >= {"machine", "versions"}
    (report,) = result["reports"]
    assert "--encoder resnet_tiny --batch-size 8" in report["command"]
    assert all(method["step_seconds"] > 0 for method in report["methods"].values())


def test_a_run_that_fails_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(SystemExit, match=r"this run failed.*false -m pretrain\.footprint"):
        measure.main(["footprint", "--json", str(tmp_path / "x.json")])
    assert not (tmp_path / "x.json").exists()


def test_an_argument_that_a_measurement_does_not_know_is_refused(capsys):
    with pytest.raises(SystemExit):
        measure.main(["tables", "--json", "x.json", "--speed", "3"])
    assert "unrecognized arguments: --speed 3" in capsys.readouterr().err
