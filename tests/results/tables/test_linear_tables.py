"""Table 1 from records of readouts, and what may not enter it."""

import re

import pandas as pd
import pytest

from results.report.report import render_report
from results.tables.every_table import all_tables
from results.tables.load import load_records
from results.tables.paper import TABLE1
from results.tables.run_tables import linear_tables
from results.tables.writers import FORMATS, to_csv
from tests.helpers.places import ROOT
from tests.helpers.run_records import SHA, make_record, twice, write_records


def readout(**changes):
    given = {"kind": "linear", "dataset": "imagenet1k", "protocol": "linear"}
    method = changes.get("method", "loco")
    epochs = None if method in ("random", "supervised") else 800
    metrics = {"top1": 69.5, "top5": 89.0, "top1_res2": 20.0, "top1_res5": 69.5, "knn_top1": 50.0}
    return make_record(**(given | {"pretrain_epochs": epochs, "metrics": metrics} | changes))


def tables_of(tmp_path, *records):
    frame, problems = load_records([write_records(tmp_path, *records)])
    assert problems == []
    return {table.name: table for table in linear_tables(frame)}


def papers_rows():
    return TABLE1.values[TABLE1.values["method"] != ""]


def test_table_1_is_rebuilt_as_printed(tmp_path):
    records = [
        readout(method=row.method, encoder=row.encoder, metrics={"top1": row.value})
        for row in papers_rows().itertuples()
    ]
    cells = tables_of(tmp_path, *records)["table1"].cells
    printed = papers_rows()[["method", "encoder", "printed"]].values.tolist()
    assert cells[["method", "encoder", "text"]].values.tolist() == printed
    assert (cells["pretrain_epochs"] == 800).all()


def test_beside_the_paper_stands_the_difference(tmp_path):
    table = tables_of(tmp_path, readout(metrics={"top1": 70.04}))["table1_paper"]
    row = table.cells[(table.cells["method"] == "loco") & (table.cells["encoder"] == "resnet50")]
    assert row["text"].tolist() == ["70.0", "69.5", "+0.5"]


PROVENANCE = {"dataset": "imagenet1k", "deviations": [], "seed": 0}


@pytest.mark.parametrize(
    "changes",
    [
        {"deviations": ("epochs: 10 instead of 100",)},
        {"dataset": "cifar (2000+1000 images, 10 classes)"},
        {"protocol": "linear_moco"},
        {"pretrain_epochs": 200},
        {"encoder": "resnet_tiny"},
        {"backbone": {"path": "x", "sha256": SHA, "provenance": {**PROVENANCE, "dataset": "own"}}},
        {"backbone": {"path": "x", "sha256": SHA,
                      "provenance": {**PROVENANCE, "deviations": ["epochs: 5 instead of 800"]}}},
        {"kind": "transfer"},
    ],
)  # fmt: skip
def test_no_other_run_enters_table_1(changes, tmp_path):
    found = tables_of(tmp_path, readout(**changes))
    assert "table1" not in found
    if changes.get("kind") != "transfer":
        protocol = changes.get("protocol", "linear")
        other = found[f"other_{protocol}"]
        assert other.title.endswith("not comparable with the paper")
        shown = other.cells.set_index("metric")["value_text"].to_dict()
        assert shown == {"top1": "69.5", "top5": "89.0", "knn_top1": "50.0", "knn_top5": "—"}


def test_every_stage_has_its_column(tmp_path):
    simclr = readout(method="simclr", metrics={"top1": 69.8, "top1_res2": 18.0, "top1_res5": 69.8})
    cells = tables_of(tmp_path, *twice(readout(), simclr))["stages_linear"].cells
    assert cells["column_label"].drop_duplicates().tolist() == ["res2", "res5"]
    loco = cells[cells["method"] == "loco"]
    assert loco["text"].tolist() == ["20.0 ± 0.0, n=2 (+2.0)", "69.5 ± 0.0, n=2 (-0.3)"]


def test_a_run_without_values_by_stage_has_no_row_there(tmp_path):
    plain = readout(method="gim", metrics={"top1": 64.7})
    cells = tables_of(tmp_path, readout(), plain)["stages_linear"].cells
    assert set(cells["method"]) == {"loco"}


def test_what_an_ablation_changed_stands_in_a_column_of_its_own(tmp_path):
    decoder = {"conv_blocks": 2, "mlp_layers": 2, "out_dim": 128}
    changed = readout(settings={"units": "loco", "decoder": decoder}, seed=1)
    table = tables_of(tmp_path, readout(), changed)["stages_linear"]
    assert table.stub == ("Method", "Arch", "Setting")
    assert to_csv(table).splitlines()[1:] == [
        "Backbone weights with 800 Epochs,LoCo,R-50,,20.0,69.5",
        "Backbone weights with 800 Epochs,LoCo,R-50,conv_blocks=2,20.0,69.5",
    ]


def test_every_table_of_the_demo_says_that_it_is_not_the_papers(tmp_path):
    configs = ROOT / "configs"
    texts = [*(configs / "demo").glob("*.py"), *(configs / "_base_").glob("demo_*.py")]
    names = {n for file in texts for n in re.findall(r'name="(demo_\w+)"', file.read_text())}
    assert names == {"demo_pretrain", "demo_linear", "demo_frozen", "demo_finetuned"}
    records = [
        make_record(protocol=name, kind=kind, dataset="scenes_x", encoder="resnet_tiny",
                    split=split, method=method, metrics={"top1": 9.0, "top1_res2": 8.0, **ap})
        for name in names - {"demo_pretrain"}
        for kind, ap in (("linear", {}), ("transfer", {"box_ap": 5.0, "mask_ap": 4.0}))
        for method in ("simclr", "loco")
        for split in range(3)
    ]  # fmt: skip
    tables = all_tables(load_records([write_records(tmp_path, *records)])[0])
    kinds = [table.name.partition("_demo")[0] for table in tables]
    assert sorted(set(kinds)) == ["other", "stages"] and len(kinds) == 15  # with tests over splits
    for table in tables:
        assert "not comparable with the paper" in table.title, table.title
        assert not table.title.startswith(("Table", "Protocol")), table.title


def test_tables_of_all_kinds_stand_together_and_are_written(tmp_path):
    frame, _ = load_records([write_records(tmp_path, readout(), make_record())])
    tables = all_tables(frame)
    assert [table.name for table in tables if table.name.startswith("table")] == [
        "table1", "table1_paper", "table2", "table2_paper",
    ]  # fmt: skip
    for table in tables:
        for write in FORMATS.values():
            assert write(table)
    page, problems = render_report(frame)
    assert problems == [] and "1 readout (LoCo) and 1 transfer (LoCo)" in page
    assert "Best box AP" not in page, "one row is no best"


@pytest.mark.parametrize("name", ["top1", "knn_top5_res2"])
def test_an_accuracy_is_a_percentage(name):
    with pytest.raises(ValueError, match="expected percent from 0 to 100"):
        readout(metrics={name: 100.5})


def test_a_readout_names_its_weights():
    with pytest.raises(ValueError, match="a linear run on 'loco' weights names the file"):
        readout(backbone=None)
    assert pd.isna(readout(method="random").backbone) or readout(method="random").backbone is None


def test_random_init_and_supervised_join_table_1_alone(tmp_path):
    """They are a floor and a mark beside the methods, and no rows of the ablations or Table 7."""
    both = ("random", "supervised")
    encoders = ("resnet50", "presnet50")
    records = [readout(method=method, encoder=name) for method in both for name in encoders]
    tables = tables_of(tmp_path, *records, readout(pretrain_epochs=100))
    rows = tables["table1"].cells
    assert rows["Method"].tolist()[:3] == ["Random Init", "Supervised", "SimCLR"]
    assert len(rows) == 6 + 2, "the paper's rows stay as they are"
    beside = tables["table1_paper"].cells
    added = beside[beside["method"].isin(both) & beside["column_label"].str.endswith("paper")]
    assert set(added["text"]) == {"\N{EM DASH}"}
    for name in ("table4", "table5"):
        assert not set(both) & set(tables[name].cells["method"])
    others = tables["other_linear"].cells
    assert set(others["encoder"]) == {"presnet50"} and set(others["method"]) == set(both)
