"""Everything readable becomes a row, everything else a problem with its reason."""

import os
from datetime import UTC, datetime

import pytest

from results.record.run_record import RunRecord
from results.tables.load import artifact_path, load_records
from tests.helpers.run_records import SHA, make_record, write_records

PROVENANCE = {"dataset": "imagenet1k", "deviations": [], "seed": 0}  # make_record's


def by_kind(problems, kind):
    return [problem for problem in problems if problem.kind == kind]


def test_every_record_becomes_a_run_with_its_path(tmp_path):
    record = make_record(metrics={"box_ap": 32.6})
    (run,), problems = load_records([write_records(tmp_path, record)])
    assert problems == [] and run.record == record
    assert run.path == str(tmp_path / "run0" / "record.json")
    assert run.finished_at == datetime(2026, 1, 31, 12, 1, 1, tzinfo=UTC)


def test_bad_records_are_listed_and_stop_nothing(tmp_path):
    write_records(tmp_path, make_record())
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "record.json").write_text('{"schema_version": 99}')
    (tmp_path / "folder" / "record.json").mkdir(parents=True)
    frame, problems = load_records([tmp_path, tmp_path / "nowhere"])
    assert len(frame) == 1
    found = {problem.path: problem.reason for problem in by_kind(problems, "bad")}
    assert "99 is newer" in found[str(tmp_path / "bad" / "record.json")]
    assert found[str(tmp_path / "nowhere")] == "no such file or folder"
    assert len(found) == 2  # a folder of that name is walked, not read


def test_links_and_hidden_folders_are_not_followed(tmp_path):
    outside = write_records(tmp_path / "outside", make_record(seed=1))
    inside = write_records(tmp_path / "inside", make_record(seed=2))
    (inside / "link").symlink_to(outside, target_is_directory=True)
    (inside / "linked").mkdir()
    (inside / "linked" / "record.json").symlink_to(outside / "run0" / "record.json")
    write_records(inside / ".hidden", make_record(seed=3))
    frame, problems = load_records([inside])
    assert [run.record.seed for run in frame] == [2]
    assert [problem.path for problem in problems] == [str(inside / "linked" / "record.json")]


def test_a_record_reached_twice_counts_once(tmp_path):
    write_records(tmp_path, make_record())
    frame, problems = load_records([tmp_path, tmp_path / "run0", tmp_path / "run0" / "record.json"])
    assert len(frame) == 1 and problems == []


def test_of_the_same_run_the_latest_is_kept(tmp_path):
    # by the clock, not by the alphabet, in which "." stands before "Z"
    times = ["2026-01-31T12:00:00Z", "2026-01-31T12:00:00.500000+00:00", "2026-01-31T11:59:59Z"]
    records = [
        make_record(finished_at=moment, metrics={"box_ap": 30.0 + i})
        for i, moment in enumerate(times)
    ]
    write_records(tmp_path, *records)
    frame, problems = load_records([tmp_path])
    assert [run.record.metrics["box_ap"] for run in frame] == [31.0]
    superseded = by_kind(problems, "superseded")
    assert {problem.path for problem in superseded} == {
        str(tmp_path / "run0" / "record.json"),
        str(tmp_path / "run2" / "record.json"),
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"split": 1},
        {"encoder": "shufflenetv2_50"},
        {"pretrain_epochs": 800},
        {"dataset": "cityscapes"},
        {"protocol": "frozen_64ep"},
        {"deviations": ("1 epoch instead of 12",)},
        {"backbone": {"path": "b", "sha256": SHA, "provenance": {**PROVENANCE, "seed": 1}}},
        {"backbone": {"path": "b", "sha256": SHA, "provenance": {**PROVENANCE, "dataset": "x"}}},
        {"backbone": {"path": "b", "sha256": SHA,
                      "provenance": {**PROVENANCE, "deviations": ["decoder: a instead of b"]}}},
        {"settings": {"units": "loco_1_block"}},
    ],
)  # fmt: skip
def test_runs_that_differ_in_this_are_different_runs(tmp_path, changes):
    write_records(tmp_path, make_record(), make_record(**changes))
    frame, problems = load_records([tmp_path])
    assert len(frame) == 2 and by_kind(problems, "superseded") == []


def test_different_data_under_one_name_are_pointed_out(tmp_path):
    other = SHA[::-1]
    records = [
        make_record(),
        make_record(method="gim", dataset_fingerprint=other),
    ]
    frame, problems = load_records([write_records(tmp_path, *records)])
    assert len(frame) == 2
    assert {problem.path for problem in by_kind(problems, "warning")} == {
        str(tmp_path / "run0" / "record.json"),
        str(tmp_path / "run1" / "record.json"),
    }


def test_splits_have_data_of_their_own(tmp_path):
    records = [make_record(split=0), make_record(split=1, dataset_fingerprint=SHA[::-1])]
    assert load_records([write_records(tmp_path, *records)])[1] == []


def test_nothing_gives_no_run(tmp_path):
    frame, problems = load_records([tmp_path])
    assert frame == [] and problems == []


def test_artifacts_stay_in_their_folder(tmp_path):
    record = make_record().write(tmp_path / "run")
    (tmp_path / "run" / "pictures").mkdir()
    picture = tmp_path / "run" / "pictures" / "000.png"
    picture.write_bytes(b"x")
    (tmp_path / "secret").write_text("s")
    (tmp_path / "run" / "link").symlink_to(tmp_path / "secret")
    assert artifact_path(record, "pictures/000.png") == picture.resolve()
    escapes = ["../secret", str(tmp_path / "secret"), "pictures/../../secret", "link"]
    escapes += ["C:\\x", "..\\secret", "", "a\0b", 3, None]
    for wrong in escapes:
        with pytest.raises(ValueError, match="artifact"):
            artifact_path(record, wrong)
    with pytest.raises(FileNotFoundError, match="is not there"):
        artifact_path(record, "pictures/001.png")


def test_every_record_is_read_once(tmp_path, monkeypatch):
    """However many folders lead to it, so that thousands take time in their number alone."""
    write_records(tmp_path, *(make_record(seed=seed) for seed in range(50)))
    read = []
    original = RunRecord.read
    monkeypatch.setattr(RunRecord, "read", lambda path: (read.append(path), original(path))[1])
    frame, problems = load_records([tmp_path, tmp_path, *tmp_path.iterdir()])
    assert len(frame) == len(read) == 50 and problems == []


def test_of_runs_that_finished_together_the_last_by_path_is_kept(tmp_path):
    records = [make_record(metrics={"box_ap": 30.0 + i}) for i in range(3)]
    frame, problems = load_records([write_records(tmp_path, *records)])
    assert [run.record.metrics["box_ap"] for run in frame] == [32.0] and len(problems) == 2


def test_a_folder_whose_name_cannot_be_printed_is_a_problem(tmp_path):
    folder = os.path.join(os.fsencode(tmp_path), b"\xff\x1b[31m")
    os.mkdir(folder)
    make_record().write(tmp_path / "record.json")
    os.rename(tmp_path / "record.json", os.path.join(folder, b"record.json"))
    records, (problem,) = load_records([tmp_path])
    assert not records and problem.reason == "its path cannot be printed"
    assert str(problem).isprintable()
