"""Text of a stranger stays text in every format."""

import csv
import io

import pandas as pd
import pytest

from results.report.report import render_report
from results.tables.every_table import all_tables
from results.tables.load import load_records
from results.tables.writers import FORMATS, _csv
from tests.helpers.run_records import make_record, write_records

EVIL = "<script>alert('1')</script>&|`$x$\\input{/etc/passwd}_a"


def test_markup_in_every_text_of_a_record_stays_text(tmp_path):
    texts = ("encoder", "dataset", "config", "git_commit", "precision", "norm")
    changes = {name: f"{EVIL}{name}" for name in texts}
    record = make_record(
        **changes, protocol=EVIL, deviations=(EVIL,), settings={EVIL: EVIL}, versions={EVIL: EVIL},
        backbone={"path": EVIL, "sha256": "0" * 64,
                  "provenance": {"dataset": EVIL, "deviations": [EVIL]}},
        metrics={"box_ap": 1.0, EVIL: 2.0},
    )  # fmt: skip
    records, problems = load_records([write_records(tmp_path / EVIL.replace("/", ""), record)])
    page, _ = render_report(records, problems)
    tables = {suffix: form(table) for table in all_tables(records)
              for suffix, form in FORMATS.items()}  # fmt: skip
    for text in (page, tables[".html"]):
        assert "<script>alert" not in text and "&lt;script&gt;alert" in text
    assert "\\input{" not in tables[".tex"] and "textbackslash" in tables[".tex"]
    assert "<script" not in tables[".md"].replace("\\<script", "")


def test_a_formula_in_a_record_is_text_in_a_spreadsheet(tmp_path):
    evil = ("=1+1", "@SUM(A1)", "+cmd|' /C calc'!A0", "-1+cmd|'x'!A0", "\tx")
    make_record(dataset=evil[0], encoder=evil[1], deviations=evil[2:]).write(tmp_path)
    for table in all_tables(load_records([tmp_path])[0]):
        for suffix in (".csv", "_values.csv"):
            rows = list(csv.reader(io.StringIO(FORMATS[suffix](table))))
            fields = [field for row in rows for field in row]
            assert any(field.startswith("'=1+1") for field in fields)
            assert not [f for f in fields if f.startswith(("=", "@", "+", "-", "\t"))]


@pytest.mark.parametrize(
    "text", ["-", "+1.2", "-0.31 ± 0.02, n=5", "32.6 (+0.4)", "-4.1 (+0.2)", "4.56×", "-1.5×", ""]
)
def test_a_number_with_a_sign_stays_one(text):
    frame = pd.DataFrame({"a": [text]})
    assert _csv(frame) == frame.to_csv(index=False, lineterminator="\n")
