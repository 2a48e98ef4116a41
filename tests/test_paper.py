"""results/paper.csv is what the paper prints, and what is odd about it is known."""

import re
from pathlib import Path

import pandas as pd
import pytest

from results.cells import rounded
from results.paper import TABLE6, TABLE7, _paper

PAPER_TEXT = Path(__file__).parents[2] / "shared" / "paper" / "loco.txt"
needs_text = pytest.mark.skipif(not PAPER_TEXT.is_file(), reason=f"no paper's text at {PAPER_TEXT}")
HEADINGS = ("Method\t", "Pretrain\t", "Extra Layers", "Sharing description", "C4\t")
NUMBERS = {1: 11, 2: 52, 3: 32, 4: 12, 5: 8, 6: 22, 7: 6}  # in each table


def printed_in_the_paper(number: int) -> list[list[str]]:
    """Rows of a table of the paper's text, from its heading line to its caption."""
    lines = PAPER_TEXT.read_text().splitlines()
    end = next(i for i, line in enumerate(lines) if line.startswith(f"Table {number}: "))
    start = max(i for i in range(end) if lines[i].startswith(HEADINGS))
    return [line.split("\t") for line in lines[start:end] if "\t" in line]


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


@needs_text
@pytest.mark.parametrize(("number", "labels"), [(1, 2), (2, 2), (3, 1)])
def test_tables_1_to_3_are_the_text_s(number, labels):
    rows, epochs = [], ""
    for parts in printed_in_the_paper(number):
        if heading := re.search(r"(100|800) E", " ".join(parts)):
            epochs = heading[1]
        values = [part for part in parts[labels:] if re.match(r"\d+\.\d", part)]
        names = [re.sub(r" \[\d+\]", "", part) for part in parts[:labels]]
        names += [epochs] if epochs and number != 1 else []
        rows += [(" ".join(names), value) for value in values]
    assert list(zip(ours(number)["row"], ours(number)["printed"], strict=True)) == rows


@needs_text
def test_table_4_is_the_text_s():
    """Whose lines hold a group of rows each, with check marks that cannot be read."""
    heading, *groups = printed_in_the_paper(4)
    assert heading == ["Extra Layers before MLP Decoder", "Local", "Sharing", "Acc."]
    labels = [row.split(", ")[0] for row in ours(4)["row"]]
    assert " ".join(labels) == " ".join(group[0] for group in groups)
    assert " ".join(ours(4)["printed"]) == " ".join(group[-1] for group in groups)


@needs_text
def test_table_5_is_the_text_s():
    rows = ours(5)[["row", "printed"]].values.tolist()
    assert rows == printed_in_the_paper(5)[1:]


@needs_text
def test_table_6_is_the_text_s():
    encoders = ("presnet50", "presnet50", "resnet50", "resnet50")
    metrics = ("memory_percent", "flops_percent") * 2
    rows = []
    for name, *values in printed_in_the_paper(6)[3:]:
        for value, encoder, metric in zip(values, encoders, metrics, strict=True):
            if re.match(r"\d", value):
                rows.append([name, value, encoder, "flops_g" if value[-1] == "G" else metric])
    assert ours(6)[["row", "printed", "encoder", "metric"]].values.tolist() == rows


@needs_text
def test_table_7_is_the_text_s():
    rows = [
        [name, re.sub(r"[$ ]|\\times", "", value).strip("×") + ("×" if k else "")]
        for name, *values in printed_in_the_paper(7)[1:]
        for k, value in enumerate(values)
    ]
    assert ours(7)[["row", "printed"]].values.tolist() == rows


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
