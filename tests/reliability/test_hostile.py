"""Some hostile inputs to every reader; ``python -m tests.reliability`` tries many more."""

from random import Random

import pytest

from tests.reliability import hostile
from tests.reliability.mutations import CANARY, Payload, hostile_json, hostile_picture
from tests.reliability.targets import targets


@pytest.mark.parametrize("name", targets())
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
    def target(folder):
        def spoil(random):
            (folder / "a").write_text("x" * random.randrange(100))
            return folder / "a"

        def read(path):
            assert len(path.read_text()) < 10

        return spoil, read

    monkeypatch.setattr(hostile, "targets", lambda: {"a": target})
    monkeypatch.setenv(CANARY, "")
    result = hostile.attack("a", tmp_path / "attack", count=100, seed=0)
    assert "AssertionError" in result["fault"]
    assert (tmp_path / "attack/files/a").read_text() == "x" * 10


def test_one_seed_makes_the_same_inputs():
    document = {"a": [1, {"b": "c"}], "d": None}
    for make in (lambda r: hostile_json(r, document), hostile_picture):
        assert [make(Random(i)) for i in range(40)] == [make(Random(i)) for i in range(40)]
        assert len({make(Random(i)) for i in range(40)}) > 20
