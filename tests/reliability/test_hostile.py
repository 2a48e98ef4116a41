"""Some hostile inputs to every reader; ``python -m tests.reliability`` tries many more."""

from random import Random

import pytest

from tests.reliability import hostile
from tests.reliability.mutations import CANARY, Payload, hostile_json, hostile_picture
from tests.reliability.targets import TARGETS, Target


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_a_spoilt_file_is_read_or_refused_by_name(name, tmp_path, monkeypatch):
    monkeypatch.setenv(CANARY, "")  # restored after the attack
    result = hostile.attack(name, tmp_path / "attack", count=20, seed=1)
    assert result["fault"] == "" and result["inputs"] >= 20


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (KeyError("a"), "KeyError"),
        (ValueError("something is wrong with this"), "names no file"),
        (ValueError("{path}: bad"), "too much or too little"),
        (ValueError("{path}: found 3, expected a name"), ""),
        (MemoryError(), "MemoryError"),
        (AssertionError("a promise"), "AssertionError"),
    ],
)
def test_a_wrong_error_is_a_fault(tmp_path, error, fault):
    def read(path):
        raise type(error)(*(text.format(path=path) for text in error.args))

    found = hostile.what_is_wrong(read, tmp_path / "a", tmp_path)
    assert fault in found and bool(found) == bool(fault)


def test_a_payload_that_is_run_is_a_fault(tmp_path, monkeypatch):
    monkeypatch.setenv(CANARY, str(tmp_path / "canary"))
    run, arguments = Payload().__reduce__()
    assert hostile.what_is_wrong(lambda path: run(*arguments), tmp_path, tmp_path) == (
        "a payload was run"
    )
    assert not (tmp_path / "canary").exists()


def test_the_smallest_input_of_a_fault_is_kept(tmp_path, monkeypatch):
    def write(folder):
        (folder / "a.txt").write_text("valid")

        def read(path):
            assert path.read_text() == "valid"

        return read

    monkeypatch.setitem(TARGETS, "a", Target(write, ("a.txt",), {}, False))
    monkeypatch.setenv(CANARY, "")
    result = hostile.attack("a", tmp_path / "attack", count=100, seed=0)
    assert "AssertionError" in result["fault"]
    assert len((tmp_path / "attack/files/a.txt").read_bytes()) < 8


def test_one_seed_makes_the_same_inputs():
    document = b'{"a": [1, {"b": "c"}], "d": null}'
    for make in (lambda r: hostile_json(r, document, {}), hostile_picture):
        assert [make(Random(i)) for i in range(40)] == [make(Random(i)) for i in range(40)]
        assert len({make(Random(i)) for i in range(40)}) > 20
