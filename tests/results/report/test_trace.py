"""From a cell back to records, weights, splits and logs; what is said where there is none."""

import json
from pathlib import Path

import pytest

from results.report.trace import main
from tests.helpers.run_records import SHA, make_record, paper_table2_records, write_records

WEIGHTS = "b" * 64
PROVENANCE = {"dataset": "imagenet1k", "deviations": [], "seed": 7, "weights_sha256": WEIGHTS}


@pytest.fixture
def table2(tmp_path):
    return str(write_records(tmp_path, *paper_table2_records()))


def traced(capsys, *arguments):
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_is_a_command_of_results(table2, capsys):
    from results.__main__ import main as command

    assert command(["trace", "table2", "GIM R-50 100", "COCO AP", table2]) == 0
    assert "cell: 25.7\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("row", "column", "cell"),
    [
        ("LoCo R-50 100", "COCO AP^bb", "32.6"),  # Table 2 of the paper
        ("loco r-50 100", "coco apbb", "32.6"),
        ("100 LoCo R-50", "COCO AP", "30.1"),  # not AP^bb
        ("GIM Sh-50 800", "Cityscapes AP", "23.9"),
        ("Supervised", "Cityscapes AP^bb", "33.2"),
    ],
)
def test_the_words_of_a_label_find_the_cell_and_its_record(row, column, cell, table2, capsys):
    found = traced(capsys, "table2", row, column, table2)
    assert found["cell"] == cell
    (run,) = found["runs"]
    record = json.loads(Path(run["record"]).read_text())
    assert set(row.lower().split()) & {record["method"], "supervised"}
    metric = "box_ap" if "bb" in column else "mask_ap"
    assert run[metric] == record["metrics"][metric] == float(cell)
    assert run["config sha256"] == SHA and run["weights"]["sha256"] == SHA


def test_weights_lead_on_to_their_pretraining_and_its_log(tmp_path, capsys):
    provenance = PROVENANCE | {"mean": [0.485, 0.456, 0.406]}
    backbone = {"path": "work_dirs/loco_r50/x", "sha256": WEIGHTS, "provenance": provenance}
    make_record(
        kind="pretrain", protocol="pretrain", metrics={}, backbone=backbone, dataset="imagenet1k",
        config="configs/pretrain/loco_r50.py",
    ).write(tmp_path / "loco_r50/record.json")  # fmt: skip
    make_record(kind="pretrain", protocol="pretrain", seed=1, metrics={}).write(
        tmp_path / "another/record.json"
    )
    make_record(backbone=backbone).write(tmp_path / "detector/record.json")
    for log in ("loco_r50/20260101/20260101.log", "detector/reproduce.log"):
        (tmp_path / log).parent.mkdir(exist_ok=True)
        (tmp_path / log).write_text("")
    (run,) = traced(capsys, "table2", "LoCo R-50 100", "COCO AP", str(tmp_path))["runs"]
    assert run["logs"] == [str(tmp_path / "detector/reproduce.log")]
    weights = run["weights"]
    assert (weights["file"], weights["sha256"]) == ("work_dirs/loco_r50/x", WEIGHTS)
    assert weights["provenance"].items() >= {"dataset": "imagenet1k", "seed": 7}.items()
    origin = weights["pretraining"]
    assert origin["record"] == str(tmp_path / "loco_r50/record.json")
    assert origin["config"] == "configs/pretrain/loco_r50.py"
    assert origin["logs"] == [str(tmp_path / "loco_r50/20260101/20260101.log")]

    assert main(["table2", "LoCo R-50 100", "COCO AP", str(tmp_path)]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    for line in (
        "cell: 30.1", "run 1 of 1", f"record: {tmp_path}/detector/record.json", "pretraining:",
        f"sha256: {WEIGHTS}", f"logs: {tmp_path}/detector/reproduce.log", "seed: 7",
        f"logs: {tmp_path}/loco_r50/20260101/20260101.log", "mean: 0.485, 0.456, 0.406",
    ):  # fmt: skip
        assert line in lines


def test_a_mean_leads_to_every_split_and_the_images_it_was_trained_on(tmp_path, capsys):
    for split in range(5):
        folder = tmp_path / f"split{split}"
        make_record(
            dataset="coco1k", protocol="finetuned_15k", split=split, pretrain_epochs=800,
            artifacts={"split_ids": "split.ids.json", "split_ids_sha256": f"{split}" * 64},
        ).write(folder / "record.json")  # fmt: skip
        if split:
            (folder / "split.ids.json").write_text("{}")
    runs = traced(capsys, "table3", "LoCo 800", "COCO-1K AP^bb", str(tmp_path))["runs"]
    assert [run["split"]["number"] for run in runs] == [0, 1, 2, 3, 4]
    assert [run["split"]["ids sha256"][0] for run in runs] == ["0", "1", "2", "3", "4"]
    assert runs[3]["split"]["ids file"] == str(tmp_path / "split3/split.ids.json")
    assert runs[0]["split"]["ids file"].startswith("not there: ")


def test_a_whole_label_goes_before_longer_ones(table2, capsys):
    """The form beside the paper has the columns COCO AP, COCO AP paper, COCO AP diff."""
    found = traced(capsys, "table2_paper", "LoCo R-50 100", "COCO AP", table2)
    assert (found["column"], found["cell"], len(found["runs"])) == ("COCO AP", "30.1", 1)


def test_random_weights_and_cells_without_a_run(tmp_path, capsys):
    make_record(method="random").write(tmp_path / "a/record.json")
    found = traced(capsys, "table2", "random", "COCO AP", str(tmp_path))
    assert found["runs"][0]["weights"] == "random"
    assert traced(capsys, "table2", "GIM R-50 800", "COCO AP", str(tmp_path))["runs"] == []


@pytest.mark.parametrize(
    ("table", "row", "column", "words"),
    [
        ("table9", "LoCo", "AP", "no table 'table9'; the tables are: table2, table2_paper"),
        ("table2", "BYOL", "AP", "no row 'BYOL'; the rows are: Supervised R-50, SimCLR R-50 100,"),
        ("table2", "LoCo R-50", "AP", "2 rows fit 'LoCo R-50'; the rows are: LoCo R-50 100, LoCo"),
        (
            "table2",
            "LoCo R-50 100",
            "AP",
            "2 columns fit 'AP'; the columns are: COCO AP, Cityscapes AP",
        ),
        ("table2", "LoCo R-50 100", "AP75", "no column 'AP75'; the columns are: COCO AP^bb, COCO"),
    ],
)
def test_says_what_there_is(table, row, column, words, table2, capsys):
    assert main([table, row, column, table2]) == 1
    assert words in capsys.readouterr().err


def test_no_records_no_tables(tmp_path, capsys):
    assert main(["table2", "LoCo", "AP", str(tmp_path)]) == 1
    assert "no table 'table2'; the tables are: none" in capsys.readouterr().err
