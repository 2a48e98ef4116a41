"""A paired t-test over splits, against formulas worked out by hand."""

import math
from statistics import fmean

import pytest

from results.figures.plots import has_bars
from results.record.labels import EM_DASH
from results.tables.load import load_records
from results.tables.run_tables import transfer_tables
from results.tables.significance import MIN_PAIRS, paired_test
from results.tables.writers import FORMATS, to_latex, to_values_csv
from tests.helpers.run_records import make_record, write_records

OURS = [11.9, 11.5, 11.8, 11.4, 11.9]
SIMCLR = [11.2, 11.1, 11.5, 11.2, 11.5]  # differences 0.7, 0.4, 0.3, 0.2, 0.4


def few(split, method="loco", **changes):
    fields = {"protocol": "finetuned_15k", "dataset": "coco1k", "split": split}
    fields |= {"dataset_fingerprint": f"{split}" * 64}
    return make_record(**(fields | {"method": method} | changes))


def splits_of(tmp_path, ours, simclr, **changes):
    records = [few(i, metrics={"box_ap": ap}, **changes) for i, ap in ours.items()]
    records += [few(i, "simclr", metrics={"box_ap": ap}, **changes) for i, ap in simclr.items()]
    frame, _ = load_records([write_records(tmp_path, *records)])
    return {table.name: table for table in transfer_tables(frame)}


def student_tail(t, degrees, steps=200_000):
    """P(|T| > t) by Simpson's rule over the density of Student's t."""
    scale = math.gamma((degrees + 1) / 2) / math.gamma(degrees / 2) / math.sqrt(degrees * math.pi)
    width = t / steps

    def density(x):
        return scale * (1 + x * x / degrees) ** (-(degrees + 1) / 2)

    inner = sum((4 if i % 2 else 2) * density(i * width) for i in range(1, steps))
    return 1 - 2 * (density(0) + inner + density(t)) * width / 3


def test_the_paired_t_test_is_student_s():
    test = paired_test(OURS, SIMCLR)
    # mean 0.4; squares of 0.3, 0, -0.1, -0.2, 0 sum to 0.14; std sqrt(0.14 / 4) = 0.18708
    assert test.mean == pytest.approx(0.4) and test.std == pytest.approx(math.sqrt(0.035))
    t = 0.4 / (math.sqrt(0.035) / math.sqrt(5))  # 4.7809
    assert test.n == 5 and test.p == pytest.approx(student_tail(t, 4), rel=1e-4)
    assert 0.0087 < test.p < 0.0089


def test_the_sign_of_a_difference_does_not_change_p():
    forth, back = paired_test(OURS, SIMCLR), paired_test(SIMCLR, OURS)
    assert forth.p == back.p and forth.mean == -back.mean


def test_what_cannot_be_tested_is_not():
    assert paired_test(OURS[: MIN_PAIRS - 1], SIMCLR[: MIN_PAIRS - 1]) is None
    assert math.isnan(paired_test([2.0, 3.0, 4.1], [1.0, 2.0, 3.1]).p), "no spread"


def test_a_table_of_its_own_says_what_the_splits_say(tmp_path):
    tables = splits_of(tmp_path, dict(enumerate(OURS)), dict(enumerate(SIMCLR)))
    assert tables["table3"].cells.query("n > 0 and method == 'loco'")["delta"].tolist() == [0.4]
    table = tables["table3_splits"]
    (cell,) = table.cells.query("n > 0").to_dict("records")
    assert cell["text"] == "+0.4 ± 0.2 (p=0.009, n=5)" and cell["best"]
    assert (cell["method"], cell["dataset"], cell["metric"]) == ("loco", "coco1k", "box_ap")
    assert (table.cells["text"] == EM_DASH).sum() == len(table.cells) - 1 == 31
    assert has_bars(tables["table3"]) and not has_bars(table), "a test is no bar"
    assert "paired t-test" in table.notes[0].text and "not corrected" in table.notes[0].text
    assert "0.008" in to_values_csv(table) and r"p\textless{}" not in to_latex(table)
    for write in FORMATS.values():
        assert write(table)


def test_only_shared_splits_are_paired(tmp_path):
    ours = {0: 11.9, 1: 11.5, 2: 11.8, 4: 20.0}
    simclr = {0: 11.2, 1: 11.1, 2: 11.5, 3: 3.0}
    table = splits_of(tmp_path, ours, simclr)["table3_splits"]
    (cell,) = table.cells.query("n > 0").to_dict("records")
    test = paired_test(OURS[:3], SIMCLR[:3])
    assert cell["n"] == 3 and cell["delta"] == pytest.approx(fmean([0.7, 0.4, 0.3]))
    assert cell["p"] == pytest.approx(test.p)


def test_two_splits_make_no_test(tmp_path):
    tables = splits_of(tmp_path, {0: 1.0, 1: 2.0}, {0: 1.0, 1: 3.0})
    assert "table3_splits" not in tables and "table3" in tables


def test_demo_splits_are_tested_in_a_table_of_their_own(tmp_path):
    changes = {"protocol": "demo_few", "dataset": "scenes_coco"}
    tables = splits_of(tmp_path, dict(enumerate(OURS)), dict(enumerate(SIMCLR)), **changes)
    assert list(tables) == ["other_demo_few", "other_demo_few_splits"]
    assert tables["other_demo_few_splits"].title.endswith(
        "not comparable with the paper; differences over splits"
    )


def test_runs_of_other_deviations_are_not_paired(tmp_path):
    ours = [few(i, metrics={"box_ap": ap}) for i, ap in enumerate(OURS)]
    short = {"deviations": ("iterations: 10 instead of 15000",)}
    changes = {"protocol": "demo_few"}
    records = [few(r.split, metrics=r.metrics, **changes) for r in ours]
    records += [
        few(i, "simclr", metrics={"box_ap": ap}, **changes, **short) for i, ap in enumerate(SIMCLR)
    ]
    frame, _ = load_records([write_records(tmp_path, *records)])
    assert [table.name for table in transfer_tables(frame)] == ["other_demo_few"]
