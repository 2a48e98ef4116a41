"""results/tables/paper.csv is what the paper prints, and what is odd about it is known."""

import io
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from results.tables.cells import rounded
from results.tables.paper import TABLE6, TABLE7, _paper
from tests.helpers.places import ROOT

TRANSCRIBED = Path(__file__).with_name("paper_tables.tsv").read_text().splitlines()[2:]
NUMBERS = {1: 11, 2: 52, 3: 32, 4: 12, 5: 8, 6: 22, 7: 6}  # in each table


def transcribed(number: int) -> list[list[str]]:
    """Name and values of each row of a table, from the second transcription."""
    rows = [line.split("\t") for line in TRANSCRIBED]
    return [row for table, *row in rows if table == str(number)]


def ours(number: int) -> pd.DataFrame:
    return _paper()[_paper()["table"] == number]


def test_every_number_is_there():
    counts = _paper()["table"].value_counts().to_dict()
    assert counts == NUMBERS
    for _, row in _paper().iterrows():
        number = re.match(r"\d+(\.\d+)?", row["printed"])[0]
        assert float(number) == row["value"], row["row"]
        shown = "1" if number == "1" else str(rounded(row["value"], row["metric"]))
        assert shown == number, "its metric is printed with as many decimals"


@pytest.mark.parametrize("number", NUMBERS)
def test_the_rows_are_those_of_the_second_transcription(number):
    expected = [
        (name, value) for name, *values in transcribed(number) for value in values if value != "-"
    ]
    rows = ours(number)["row"]
    if number == 4:  # whose rows have one name where check marks tell them apart
        rows = [row.split(", ")[0] for row in rows]
    assert list(zip(rows, ours(number)["printed"], strict=True)) == expected


def test_the_columns_of_table_6_are_those_of_the_second_transcription():
    encoders = ("presnet50", "presnet50", "resnet50", "resnet50")
    metrics = ("memory_percent", "flops_percent") * 2
    *stages, (_, *totals) = transcribed(6)
    expected = [
        (encoder, metric)
        for _, *values in stages
        for value, encoder, metric in zip(values, encoders, metrics, strict=True)
        if value != "-"
    ]
    expected += [(encoder, "flops_g") for encoder in ("presnet50", "resnet50")]
    assert len(totals) == 2
    assert list(zip(ours(6)["encoder"], ours(6)["metric"], strict=True)) == expected


# ---- the paper's own slips


def test_the_paper_s_own_deltas_follow_our_rule_but_for_two():
    """The difference of printed values gives every printed delta; Table 3 has two slips."""
    frame = _paper()[_paper()["table"].isin([2, 3])]
    keys = ["table", "pretrain_epochs", "encoder", "dataset", "metric"]
    simclr = frame[frame["method"] == "simclr"].set_index(keys)["value"]
    slips = []
    deltas = 0
    for _, row in frame.iterrows():
        if found := re.search(r"\((.+)\)", row["printed"]):
            deltas += 1
            difference = rounded(row["value"]) - rounded(simclr[tuple(row[keys])])
            if f"{difference:+}" != found[1]:
                slips.append((row["table"], row["row"], row["column"], f"{difference:+}"))
                assert "not the difference" in row["note"]
    assert deltas == 32 + 16
    assert slips == [
        (3, "Ours 100", "COCO-10K AP^bb", "+0.5"),
        (3, "Ours 100", "COCO-10K AP", "+0.3"),
    ]
    others = _paper()[~_paper()["table"].isin([2, 3])]
    assert not others["printed"].str.contains(r"\(").any()


def test_shares_of_table_6_sum_to_a_hundred_but_for_rounding():
    shares = TABLE6.values[TABLE6.values["metric"] != "flops_g"]
    sums = shares.groupby(["encoder", "metric"])["value"].sum().round(2).to_dict()
    assert sums == {
        ("presnet50", "flops_percent"): 100.01,
        ("presnet50", "memory_percent"): 100.0,
        ("resnet50", "flops_percent"): 100.01,
        ("resnet50", "memory_percent"): 100.0,
    }


def test_table_6_counts_res4_with_128_channels():
    """Section 5.6 and Table 8 give res4 144 base channels; its memory share holds for 128.

    Channels that the convolutions of a stage put out times the area, by hand from Table 8.
    """

    def shares(res4):
        basic = [3 * 2 * 56 * 56**2, 3 * 2 * 96 * 36**2]
        bases = ((res4, 24), (256, 16), (512, 12), (1024, 8))
        stages = [*basic, *(3 * (2 + 4) * base * side**2 for base, side in bases)]
        return [round(100 * stage / sum(stages), 2) for stage in stages]

    values = TABLE6.values.query("encoder == 'presnet50' and metric == 'memory_percent'")
    assert values["value"].tolist() == shares(128) != shares(144)
    assert values[values["note"] != ""]["row"].tolist() == ["res4"]


def test_the_text_of_section_5_6_fits_table_7():
    """ "14 points behind SimCLR"."""
    points = TABLE7.values[TABLE7.values["metric"] == "top1"].set_index("method")["value"]
    assert round(points["simclr"] - points["gim"]) == 14


def test_paper_csv_is_checked(tmp_path):
    from results.tables.paper import read_values

    source = (ROOT / "results/tables/paper.csv").read_text()
    file = tmp_path / "paper.csv"
    for old, new, message in (
        ("69.8", "6g.8", "value of value 6 is '6g.8', expected a number"),
        ("table,row", "tabel,row", "has the columns 'tabel"),
        ("69.8", "nan", "value of value 6 is 'nan'"),
        ("69.8", "-1", "value of value 6 is '-1'"),
    ):
        file.write_text(source.replace(old, new, 1))
        with pytest.raises(ValueError, match=message):
            read_values(file)
    file.write_bytes(io.BytesIO(b"\xff\xfe\0").getvalue())
    with pytest.raises(ValueError, match=r"paper\.csv is no CSV file"):
        read_values(file)
    assert json.dumps(len(read_values(ROOT / "results/tables/paper.csv"))) == "143"
