"""The run record's JSON Schema and its older versions."""

import dataclasses
import json

import jsonschema
import pytest

from results.record.migration import migrate
from results.record.run_record import SCHEMA_VERSION, RunRecord
from results.record.schema import json_schema, stored_schema
from tests.helpers.run_records import SHA, make_record


def errors(content):
    """What an independent validator says of a record."""
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    validator = jsonschema.Draft202012Validator(stored_schema(), format_checker=checker)
    return [error.json_path for error in validator.iter_errors(content)]


def content_of(record):
    return json.loads(json.dumps(dataclasses.asdict(record)))


def test_the_stored_schema_is_the_dataclass_s():
    assert stored_schema() == json_schema(), (
        "run: python -m results.record.schema > results/record/record.schema.json"
    )
    jsonschema.Draft202012Validator.check_schema(stored_schema())
    names = [field.name for field in dataclasses.fields(RunRecord)]
    assert list(stored_schema()["properties"]) == stored_schema()["required"] == names


@pytest.mark.parametrize(
    "record",
    [
        make_record(),
        make_record(method="random", split=3, peak_memory_mib=None),
        make_record(kind="pretrain", backbone=None, deviations=("a", "b"), metrics={}),
        make_record(settings={"units": [[0, 1]], "decoder": {"conv_blocks": 1}, "sharing": None}),
        make_record(config="x" * 4096, deviations=["x" * 4096] * 100, hardware={"a": [0] * 1000}),
    ],
)
def test_a_record_meets_the_schema(record, tmp_path):
    assert errors(json.loads(record.write(tmp_path).read_text())) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kind", "finetune"), ("method", " "), ("seed", "0"), ("seed", 1.5), ("split", "1"),
        ("pretrain_epochs", "x"), ("deviations", "a"), ("deviations", [1]), ("metrics", {"a": "b"}),
        ("world_size", 0), ("wall_time_s", -1), ("config_hash", SHA.upper()), ("encoder", ""),
        ("dataset_fingerprint", "abc"), ("schema_version", 1), ("schema_version", 99),
        ("versions", {"python": 3}), ("backbone", []), ("evaluated_images", 0.5),
        ("norm", "x" * 301), ("metrics", {"x" * 301: 1.0}),
        ("deviations", ["x" * 4097]), ("deviations", ["x"] * 1001),
        ("versions", {"x" * 4097: "1"}), ("settings", {"a": [{"b": "x" * 4097}]}),
        ("hardware", {"a": {"x" * 4097: 1}}), ("artifacts", {"pictures": ["x"] * 1001}),
        ("metrics", {f"loss_{i}": 1.0 for i in range(1001)}),
    ],
)  # fmt: skip
def test_schema_and_dataclass_refuse_the_same(name, value):
    content = content_of(make_record()) | {name: value}
    assert errors(content) != [] and errors(content)[0].startswith(f"$.{name}")
    with pytest.raises(ValueError, match=name):
        RunRecord(**content)


def test_missing_and_unknown_fields_are_refused():
    content = content_of(make_record())
    assert errors(content | {"gpu": 1}) and errors(
        {k: v for k, v in content.items() if k != "seed"}
    )


# ---- older versions

NEW_SINCE_2 = ("evaluated_images", "expected_images", "setting")
VERSION_2 = {
    name: value
    for name, value in (content_of(make_record(seed=7)) | {"schema_version": 2}).items()
    if name not in NEW_SINCE_2
}
VERSION_1 = VERSION_2 | {"schema_version": 1}
del VERSION_1["settings"]


def test_a_record_of_version_1_becomes_one_of_today(tmp_path):
    (tmp_path / "record.json").write_text(json.dumps(VERSION_1))
    record = RunRecord.read(tmp_path / "record.json")
    assert record == make_record(seed=7, settings={})
    assert record.schema_version == SCHEMA_VERSION and errors(content_of(record)) == []
    again = RunRecord.read(record.write(tmp_path / "again"))
    assert again == record


def test_a_record_of_version_2_does_not_know_its_images(tmp_path):
    (tmp_path / "record.json").write_text(json.dumps(VERSION_2))
    record = RunRecord.read(tmp_path / "record.json")
    assert record == make_record(seed=7, evaluated_images=None, expected_images=None)
    today = {"evaluated_images": 5, "expected_images": 5}
    (tmp_path / "record.json").write_text(json.dumps(VERSION_2 | today | {"schema_version": 3}))
    assert RunRecord.read(tmp_path / "record.json") == make_record(seed=7, **today)


@pytest.mark.parametrize(
    ("method", "settings", "setting"),
    [
        ("loco", {}, ""),
        ("loco", {"units": "loco", "decoder": {"conv_blocks": 1}, "temperature": 0.1}, ""),
        ("simclr", {"units": "simclr", "decoder": {"conv_blocks": 0}}, ""),
        ("loco", {"units": "loco", "decoder": {"conv_blocks": 2}}, "conv_blocks=2"),
        ("loco", {"units": "loco_1_block", "decoder": {"conv_blocks": 1}}, "units=loco_1_block"),
    ],
)
def test_a_record_of_version_3_says_what_its_settings_change(method, settings, setting, tmp_path):
    content = content_of(make_record(method=method, settings=settings)) | {"schema_version": 3}
    del content["setting"]
    (tmp_path / "record.json").write_text(json.dumps(content))
    assert RunRecord.read(tmp_path / "record.json").setting == setting


def test_migration_leaves_the_old_content_alone():
    before = dict(VERSION_1)
    assert migrate(VERSION_1, SCHEMA_VERSION)["schema_version"] == SCHEMA_VERSION
    assert before == VERSION_1


@pytest.mark.parametrize("version", [None, True, "1", 1.0, [1], -1, 0])
def test_what_has_no_version_is_not_guessed_at(version, tmp_path):
    content = VERSION_1 | {"schema_version": version}
    assert migrate(content, SCHEMA_VERSION) == content
    (tmp_path / "record.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"settings|schema_version"):
        RunRecord.read(tmp_path / "record.json")


def test_a_faulty_old_record_is_refused_by_its_fault(tmp_path):
    (tmp_path / "record.json").write_text(json.dumps(VERSION_1 | {"method": 3}))
    with pytest.raises(ValueError, match=r"record\.json: method: found 3"):
        RunRecord.read(tmp_path / "record.json")
