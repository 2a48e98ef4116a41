"""Table 3 from records: means over five splits, and nothing in it that is less."""

import pandas as pd
import pytest

from results.record.labels import EM_DASH
from results.tables.load import load_records
from results.tables.paper import TABLE3
from results.tables.run_tables import transfer_tables
from tests.helpers.run_records import make_record, write_records

SPREAD = (-0.2, -0.1, 0.0, 0.1, 0.2)  # around the mean, one a split; sample std 0.158


def tables_of(tmp_path, *records):
    frame, problems = load_records([write_records(tmp_path, *records)])
    assert [p for p in problems if p.kind == "bad"] == []
    return {table.name: table for table in transfer_tables(frame)}


def few(split, dataset="coco1k", **changes):
    fields = {"protocol": TABLE3.protocols.get(dataset), "dataset": dataset, "split": split}
    return make_record(**(fields | {"dataset_fingerprint": f"{split or 0}" * 64} | changes))


def paper_records():
    """Table 3 as the records of five splits that would give it."""
    keys = ["pretrain_epochs", "method", "encoder", "dataset"]
    return [
        few(
            split,
            dataset,
            method=method,
            encoder=encoder,
            pretrain_epochs=None if pd.isna(epochs) else int(epochs),
            metrics=dict(zip(cells["metric"], cells["value"] + SPREAD[split], strict=True)),
        )
        for (epochs, method, encoder, dataset), cells in TABLE3.values.groupby(keys, dropna=False)
        for split in range(5)
    ]


def test_five_splits_of_every_row_give_the_paper_s_table(tmp_path):
    tables = tables_of(tmp_path, *paper_records())
    assert list(tables) == ["table3", "table3_paper", "table3_splits"]
    cells = tables["table3"].cells
    assert len(cells) == len(TABLE3.values) == 32 and set(cells["n"]) == {5}
    columns = ["pretrain_epochs", "method", "dataset", "metric"]
    both = cells.merge(TABLE3.values, on=columns, suffixes=("", "_paper"))
    assert len(both) == 32
    for _, cell in both.iterrows():
        value, _, delta = cell["printed"].partition(" ")
        if "printed delta" in cell["note"]:  # two slips of the paper
            delta = "(+0.5)" if cell["metric"] == "box_ap" else "(+0.3)"
        assert cell["text"] == f"{value} ± 0.2, n=5" + (f" {delta}" if delta else "")
    shown = cells.drop_duplicates("row")["Method"].tolist()
    assert shown == ["Random Init", "Supervised"] + ["SimCLR", "GIM", "LoCo"] * 2
    assert list(dict.fromkeys(cells["group_label"])) == ["COCO-10K", "COCO-1K"]
    assert not any("alone" in note.text for note in tables["table3"].notes)
    beside = tables["table3_paper"].cells
    assert set(beside[beside["column_label"].str.endswith("diff.")]["text"]) <= {"+0.0", "-0.0"}


def test_a_mean_over_fewer_splits_says_so_and_is_compared_with_its_like(tmp_path):
    loco = [few(split, metrics={"box_ap": 12.0 + split}) for split in (0, 3)]
    simclr = [few(split, method="simclr", metrics={"box_ap": 10.0 + split}) for split in range(5)]
    table = tables_of(tmp_path / "unlike", *loco, *simclr)["table3"]
    cell = table.cells.query("method == 'loco' and metric == 'box_ap' and n > 0").iloc[0]
    assert cell["text"] == "13.5 ± 2.1, n=2" and cell["mark"] == "a"  # no difference from SimCLR
    assert ("a", "splits 0, 3 alone, not the mean over 5.") in table.notes
    table = tables_of(tmp_path / "like", *loco, simclr[0], simclr[3])["table3"]
    cell = table.cells.query("method == 'loco' and metric == 'box_ap' and n > 0").iloc[0]
    assert cell["text"] == "13.5 ± 2.1, n=2 (+2.0)"
    assert ("", "Every run: splits 0, 3 alone, not the mean over 5.") in table.notes


@pytest.mark.parametrize(
    "changes",
    [
        {"split": None},
        {"split": 5},
        {"dataset": "coco10k"},  # the other one's protocol
        {"protocol": "finetuned_60k"},
        {"encoder": "shufflenetv2_50"},
        {"pretrain_epochs": 200},
        {"deviations": ("iterations: 100 instead of 15000",)},
        {"dataset": "coco_mini (20+20 images)"},
    ],
)
def test_nothing_else_enters_table_3(tmp_path, changes):
    fields = {"split": 2, "dataset": "coco1k", "protocol": "finetuned_15k"} | changes
    tables = tables_of(tmp_path, few(**fields), few(0, method="gim"))
    assert list(tables) == ["table3", "table3_paper", "other_finetuned"]
    cells = tables["table3"].cells
    assert set(cells[cells["n"] > 0]["method"]) == {"gim"}
    assert set(cells[cells["n"] == 0]["text"]) == {EM_DASH}
    assert tables["other_finetuned"].title == (
        "Fine-tuned on few images - not comparable with the paper"
    )


def test_a_frozen_run_with_a_split_is_not_table_2_s(tmp_path):
    assert list(tables_of(tmp_path, make_record(split=1))) == ["other_frozen"]
    assert list(tables_of(tmp_path / "whole", make_record())) == ["table2", "table2_paper"]
