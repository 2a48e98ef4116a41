"""What is written is what is read, and what cannot be traced is refused."""

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from results.record.files import sha256_file, write_atomically
from results.record.protocol import deviations, incomplete
from results.record.run_record import FILE_NAME, SCHEMA_VERSION, RunRecord
from results.tables.load import load_records
from results.tables.paper import TABLE2
from results.tables.run_tables import transfer_tables
from results.tables.writers import to_markdown
from tests.helpers.run_records import SHA, make_record, write_records


def test_round_trip_keeps_every_field(tmp_path):
    record = make_record(
        split=3,
        deviations=("1 epoch instead of 12", "ü & <b>"),
        artifacts={"pictures": ["a.png"], "losses": "losses.csv"},
        peak_memory_mib=None,
    )
    assert record.write(tmp_path / "deep" / FILE_NAME) == tmp_path / "deep" / FILE_NAME
    assert RunRecord.read(tmp_path / "deep" / FILE_NAME) == record
    stored = json.loads((tmp_path / "deep" / FILE_NAME).read_text())
    assert stored["schema_version"] == SCHEMA_VERSION == 4
    assert stored["deviations"] == ["1 epoch instead of 12", "ü & <b>"]


def test_a_folder_gets_the_usual_file_name(tmp_path):
    assert make_record().write(tmp_path) == tmp_path / "record.json"
    assert make_record().write(tmp_path / "new") == tmp_path / "new" / "record.json"


def test_numpy_numbers_and_lists_become_plain(tmp_path):
    record = make_record(
        metrics={"box_ap": np.float32(32.5)}, seed=np.int64(7), deviations=["a"], wall_time_s=60
    )
    assert record.metrics == {"box_ap": 32.5} and type(record.metrics["box_ap"]) is float
    assert record.seed == 7 and type(record.seed) is int
    assert record.deviations == ("a",)
    assert type(record.wall_time_s) is float
    assert RunRecord.read(record.write(tmp_path)) == record


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": ""}, "method: found '', expected"),
        ({"setting": "x" * 4097}, "setting: found"),
        ({"kind": "finetune"}, "kind: found 'finetune', expected one of pretrain, linear, tr"),
        ({"metrics": {"box_ap": float("nan")}}, r"metrics\['box_ap'\]: found nan, .*finite"),
        ({"metrics": {"loss": float("inf")}}, r"metrics\['loss'\]: found inf, .*finite"),
        ({"metrics": {"box_ap": "32.6"}}, "metrics: found .*'32.6'.*expected `float`"),
        ({"metrics": {"box_ap_s": -100.0}}, r"box_ap_s.*percent from 0 to 100.*pycocotools"),
        ({"metrics": {"mask_ap50": -1.0}}, r"mask_ap50.*percent from 0 to 100"),
        ({"metrics": {"box_ar_l": 100.1}}, r"box_ar_l.*percent from 0 to 100"),
        ({"metrics": {3: 1.0}}, "found the key 3, expected strings"),
        ({"seed": "0"}, "seed: found '0', expected `int`, got `str`"),
        ({"seed": True}, "seed: found True, expected `int`"),
        ({"wall_time_s": True}, "wall_time_s: found True, expected `float`"),
        ({"wall_time_s": -1.0}, "wall_time_s: found -1.0, expected `float` >= 0"),
        ({"world_size": 0}, "world_size: found 0, expected `int` >= 1"),
        ({"deviations": "1 epoch"}, "deviations: found '1 epoch', expected `array`"),
        (
            {"deviations": (1,)},
            r"deviations: found \[1\], expected `str`.*\[0\]",
        ),
        ({"dataset": " "}, "dataset: found ' ', expected"),
        (
            {"dataset_fingerprint": "abc"},
            "dataset_fingerprint: found 'abc'.*0-9a-f",
        ),
        ({"config_hash": SHA.upper()}, r"config_hash: .*\[0-9a-f\]"),
        ({"started_at": "yesterday"}, "started_at: found 'yesterday', expected ISO 8601 in UTC"),
        ({"finished_at": "2026-01-31T12:00:00"}, "finished_at: .* in UTC"),
        ({"finished_at": "2026-01-31T12:00:00+01:00"}, "finished_at: .* in UTC"),
        ({"pretrain_epochs": None}, "pretrain_epochs: found None with method 'loco'"),
        ({"pretrain_epochs": -1}, "pretrain_epochs: found -1, expected `int` >= 0"),
        ({"method": "random", "pretrain_epochs": 100}, "found 100 with method 'random'"),
        ({"method": "random", "backbone": {"sha256": SHA}}, "backbone: found one with .*random"),
        ({"backbone": None}, "backbone: lacks path, sha256, provenance"),
        (
            {"backbone": {"path": "x", "sha256": "y", "provenance": {}}},
            r"backbone: found .*at `\$\.sha256`",
        ),
        (
            {"evaluated_images": 5},
            "evaluated_images: found 5 with expected_images None, expected two",
        ),
        ({"expected_images": 5}, "evaluated_images: found None with expected_images 5"),
        (
            {"evaluated_images": -1, "expected_images": 5},
            "evaluated_images: found -1",
        ),
        (
            {"evaluated_images": 4999, "expected_images": 5000},
            "deviations: lacks 'incomplete: evaluated on 4999 of 5000 images'",
        ),
        ({"schema_version": 3}, "schema_version: found 3, expected one of 4"),
    ],
)
def test_a_wrong_value_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        make_record(**changes)


# ---- results on fewer images than there are

INCOMPLETE = {
    "evaluated_images": 4999,
    "expected_images": 5000,
    "deviations": ("incomplete: evaluated on 4999 of 5000 images",),
}


@pytest.mark.parametrize(
    ("evaluated", "expected", "texts"),
    [
        (4999, 5000, INCOMPLETE["deviations"]),
        (0, 1, ("incomplete: evaluated on 0 of 1 images",)),
        (5000, 5000, ()),
        (5001, 5000, ()),
        (None, None, ()),  # records of before
    ],
)
def test_fewer_images_than_there_are_is_a_deviation(evaluated, expected, texts):
    assert incomplete(evaluated, expected) == texts


def test_an_incomplete_result_fills_no_cell_of_the_papers(tmp_path):
    """It stands beside a complete one in a table of its own, with the reason below."""
    complete = make_record(evaluated_images=5000, expected_images=5000)
    write_records(tmp_path, complete, make_record(**INCOMPLETE, metrics={"box_ap": 99.0}))
    records, problems = load_records([tmp_path])
    assert problems == [] and [TABLE2.admits(run) for run in records] == [
        True,
        False,
    ]
    tables = {table.name: table for table in transfer_tables(records)}
    assert 99.0 not in set(tables["table2"].cells["value"])
    assert 32.6 in set(tables["table2"].cells["value"])
    other = tables["other_frozen"]
    assert set(other.cells["value"].dropna()) == {99.0}
    assert any(INCOMPLETE["deviations"][0] in note.text for note in other.notes)


def test_a_value_made_wrong_later_is_refused_on_writing(tmp_path):
    record = make_record()
    record.metrics["box_ap"] = float("nan")
    with pytest.raises(ValueError, match=r"metrics\['box_ap'\]"):
        record.write(tmp_path)
    with pytest.raises(ValueError, match=r"hardware\['cores'\]: found .* JSON"):
        make_record(hardware={"cores": {1, 2}})
    assert list(tmp_path.iterdir()) == []


def test_reading_names_file_fault_and_expectation(tmp_path):
    path = make_record().write(tmp_path)
    good = json.loads(path.read_text())

    def refused(content, *words):
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        with pytest.raises(ValueError) as caught:
            RunRecord.read(path)
        assert all(word in str(caught.value) for word in (str(path), *words)), str(caught.value)

    refused("{", "not a JSON file", "expected a run record")
    refused("[" * 100_000, "not a JSON file")
    refused("[1]", "found a JSON list")
    refused(good | {"schema_version": 5}, "schema_version 5 is newer than 4", "update")
    refused(good | {"schema_version": 0}, "schema_version: found 0, expected one of 4")
    refused(good | {"schema_version": [1]}, "schema_version: found [1]")
    refused(good | {"gpu": 1}, "unknown: gpu")
    refused({k: v for k, v in good.items() if k != "seed"}, "missing: seed")
    refused(good | {"seed": 1.5}, "seed: found 1.5, expected `int`")
    refused(json.dumps(good | {"hardware": {"x": float("nan")}}), "not a JSON file")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not a JSON file"):
        RunRecord.read(path)


def test_what_is_written_can_be_read_whatever_its_size(tmp_path):
    """5 MiB in texts of a permitted length, some of them told as `\\u4e2d`."""
    many = {str(i): ["中" * 4096] * 10 for i in range(22)}
    with pytest.raises(ValueError, match=r"hardware: the record has 54\d+ bytes, most of"):
        make_record(hardware=many).write(tmp_path)
    assert list(tmp_path.iterdir()) == []
    fits = make_record(hardware={str(i): ["中" * 4096] * 10 for i in range(16)})
    assert RunRecord.read(fits.write(tmp_path)) == fits


def test_a_long_value_makes_a_short_deviation_that_stays_its_own():
    stated = {"milestones": "60, 80"}
    long = ", ".join(map(str, range(1000)))
    (first,) = deviations(stated, {"milestones": long})
    (second,) = deviations(stated, {"milestones": long + ", 1000"})
    digest = hashlib.sha256(long.encode()).hexdigest()[:12]
    assert first == f"milestones: {long[:300]}... (sha256 {digest}) instead of 60, 80"
    assert first != second and deviations(stated, {"milestones": "60, 80"}) == ()


def test_one_record_of_a_stranger_makes_no_table_large(tmp_path):
    """What is too long is left out by name; what is just permitted widens no other line."""
    folder = write_records(tmp_path, *(make_record(seed=seed) for seed in range(3)))
    make_record(encoder="x" * 300, dataset="y" * 300, protocol="z" * 300).write(folder / "long")
    content = json.loads((folder / "long/record.json").read_text()) | {"norm": "x" * 10**6}
    (folder / "large").mkdir()
    (folder / "large/record.json").write_text(json.dumps(content))
    records, (problem,) = load_records([folder])
    assert "norm: found 'xxx" in problem.reason and len(problem.reason) < 400
    text = "".join(map(to_markdown, transfer_tables(records)))
    assert len(text) < 60_000


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = make_record(seed=1).write(tmp_path)
    before = path.read_bytes()
    for name in ("fsync", "replace"):

        def fail(*_):
            raise OSError("disk full")

        with monkeypatch.context() as patch:
            patch.setattr(os, name, fail)
            with pytest.raises(OSError, match="disk full"):
                make_record(seed=2).write(path)
        assert path.read_bytes() == before
        assert [file.name for file in tmp_path.iterdir()] == ["record.json"]


def test_bytes_are_on_disk_before_the_name_changes(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda *a: (calls.append("fsync"), fsync(*a))[1])
    monkeypatch.setattr(os, "replace", lambda *a: (calls.append("replace"), replace(*a))[1])
    assert write_atomically(tmp_path / "x", b"1").read_bytes() == b"1"
    assert calls == ["fsync", "replace"]


def test_sha256_file_reads_in_pieces(tmp_path):
    content = bytes(range(256)) * 9000  # more than two pieces
    (tmp_path / "weights").write_bytes(content)
    assert sha256_file(tmp_path / "weights") == hashlib.sha256(content).hexdigest()


def test_the_record_needs_msgspec_only():
    code = (
        "import sys, results.record.run_record;"
        "ours = {name.partition('.')[0] for name in sys.modules};"
        "print(sorted(ours & {'numpy', 'pandas', 'matplotlib', 'jinja2', 'torch'}))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert printed.stdout.strip() == "[]", printed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"seed": 10**30},
            "seed: found 1000000000000000000000000000000, expected an integer of 64",
        ),
        ({"pretrain_epochs": 2**63}, "pretrain_epochs: found 9223372036854775808, expected an int"),
        ({"wall_time_s": 10**400}, "wall_time_s: found 1000.*64 bits"),
        (
            {"encoder": "\ud800"},
            r"encoder: found '\\ud800' of 1 characters, expected print",
        ),
        ({"norm": "\x1b[31m"}, r"norm: found '\\x1b\[31m' of 5 characters, expected printable"),
        ({"settings": {"a": [float("inf")]}}, r"settings\['a'\]\[0\]: found inf, .*finite"),
        ({"hardware": {"\0": 1}}, r"hardware: found the key '\\x00'"),
        (
            {"config": "x" * 1000 + "\0"},
            r"config: found 'x{199}\.\.\. of 1001 characters",
        ),
        ({"encoder": "x" * 10**7}, r"encoder: found 'x{199}\.\.\. of 10000000 char"),
        (
            {"dataset": "x" * 301},
            r"dataset: found 'x+\.\.\., expected `str` of length <= 300",
        ),
        ({"metrics": {"x" * 301: 1.0}}, r"metrics: found .*length <= 300"),
        ({"deviations": ["x" * 4097]}, r"deviations\[0\]: found 'x+\.\.\. of 4097 characters"),
        ({"deviations": ["x"] * 1001}, "deviations: found 1001 entries, expected 1000 at most"),
        ({"versions": {"x" * 4097: "1"}}, "versions: found the key 'x+.*4096 characters at most"),
        ({"metrics": {f"loss_{i}": 1.0 for i in range(1001)}}, "metrics: found 1001 entries"),
        ({"settings": {"a": {"b": ["x" * 4097]}}}, r"settings\['a'\]\['b'\]\[0\]: found 'x"),
        ({"settings": {"a": [0] * 1001}}, r"settings\['a'\]: found 1001 entries"),
        ({"artifacts": {str(i): i for i in range(1001)}}, "artifacts: found 1001 entries"),
        ({"hardware": {"x" * 4097: 1}}, "hardware: found the key 'x"),
    ],
)
def test_what_no_table_could_hold_is_refused(changes, message):
    with pytest.raises(ValueError, match=message) as error:
        make_record(**changes)
    assert len(str(error.value)) < 1000


def test_lists_without_end_in_a_record_are_refused():
    deep = []
    for _ in range(200):
        deep = [deep]
    with pytest.raises(ValueError, match="21 deep, expected 20"):
        make_record(hardware={"a": deep})


def test_what_a_record_says_of_its_backbone_is_checked_in_a_pretraining_too(tmp_path):
    for name, value in (("sha256", 5), ("path", ["a"]), ("provenance", "text")):
        with pytest.raises(ValueError, match=rf"backbone: found .*{name}"):
            make_record(kind="pretrain", backbone={name: value})
    content = json.loads(make_record().write(tmp_path).read_text())
    (tmp_path / "record.json").write_text(json.dumps(content) + " " * (65 << 20))
    with pytest.raises(ValueError, match="larger than 4 MiB"):
        RunRecord.read(tmp_path / "record.json")
