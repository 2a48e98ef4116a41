"""results/tables/tables.py and its writers, against the paper's own printed tables."""

import csv
import io
import re
from decimal import Decimal

import pandas as pd
import pytest

from results.record.labels import EM_DASH, METHODS, METRICS
from results.report.report import render_report
from results.tables.backbone import backbone_deviations
from results.tables.cells import rounded, rows_of_runs
from results.tables.grid import RowKey
from results.tables.latex import FITTED
from results.tables.load import load_records
from results.tables.paper import TABLE2
from results.tables.run_tables import transfer_tables
from results.tables.writers import (
    FORMATS,
    Trace,
    to_csv,
    to_html,
    to_latex,
    to_markdown,
    to_values_csv,
)
from tests.helpers.run_records import SHA, make_record, paper_table2_records, twice, write_records

DEMO = {"encoder": "resnet_tiny", "protocol": "demo_frozen", "dataset": "scenes_coco"}
LATIN = "".join(map(chr, range(0xA0, 0x100)))  # with the soft hyphen, which is not printable
HOSTILE = r"""<script>alert(1)</script> & 100% $x_1$ {\input{x}} ~^#|`*"'"""


def load(tmp_path, *records):
    return load_records([write_records(tmp_path, *records)])[0]


def tables_of(tmp_path, *records):
    return {table.name: table for table in transfer_tables(load(tmp_path, *records))}


def cell(table, **keys):
    cells = table.cells
    for name, value in keys.items():
        cells = cells[cells[name].isna() if value is None else cells[name] == value]
    assert len(cells) == 1, cells[["method", "dataset", "metric", "text"]]
    return cells.iloc[0]


def box(table, method, **keys):
    return cell(table, method=method, metric="box_ap", **keys)["text"]


# ---- the paper's numbers


def test_table_2_is_rebuilt_as_printed(tmp_path):
    table = tables_of(tmp_path, *twice(*paper_table2_records()))["table2"]
    expected = {}
    for _, row in TABLE2.values.iterrows():
        epochs = None if pd.isna(row["pretrain_epochs"]) else row["pretrain_epochs"]
        key = (epochs, row["method"], row["encoder"], row["dataset"], row["metric"])
        expected[key] = row["printed"]
    assert len(expected) == len(table.cells) == 52
    for (epochs, method, encoder, dataset, metric), printed in expected.items():
        found = cell(
            table,
            pretrain_epochs=epochs,
            method=method,
            encoder=encoder,
            dataset=dataset,
            metric=metric,
        )
        value, *delta = printed.split()
        assert found["text"] == " ".join([value, "± 0.0, n=2", *delta])
    order = list(dict.fromkeys(TABLE2.rows))
    found = table.cells.drop_duplicates("row")[["pretrain_epochs", "method", "encoder"]]
    assert [
        RowKey(None if pd.isna(e) else e, m, a) for e, m, a in found.itertuples(index=False)
    ] == order
    assert table.cells["block"].unique().tolist() == [
        "",
        "Backbone weights with 100 Epochs",
        "Backbone weights with 800 Epochs",
    ]


def test_table_2_as_csv_line_by_line(tmp_path):
    """A single run is never compared; the differences of printed values stand above."""
    lines = to_csv(tables_of(tmp_path, *paper_table2_records())["table2"]).splitlines()
    assert lines[0] == "Block,Method,Arch,COCO AP^bb,COCO AP,Cityscapes AP^bb,Cityscapes AP"
    assert lines[1] == ",Supervised,R-50,33.9,31.3,33.2,27.1"
    block = "Backbone weights with 100 Epochs"
    assert lines[4] == f"{block},LoCo,R-50,32.6,30.1,33.2,28.4"
    assert lines[6] == f"{block},GIM,Sh-50,27.3,25.4,29.1,23.9"
    assert len(lines) == 14


def test_the_second_form_has_the_paper_s_value_and_the_difference(tmp_path):
    records = [
        make_record(metrics={"box_ap": 33.04, "mask_ap": 30.1}),
        make_record(method="random"),
    ]
    beside = tables_of(tmp_path, *records)["table2_paper"]
    lines = list(csv.DictReader(io.StringIO(to_csv(beside))))
    loco = next(line for line in lines if line["Method"] == "LoCo" and "100" in line["Block"])
    assert [loco[f"COCO AP^bb{name}"] for name in ("", " paper", " diff.")] == [
        "33.0",
        "32.6",
        "+0.4",
    ]
    assert [loco[f"COCO AP{name}"] for name in ("", " paper", " diff.")] == ["30.1", "30.1", "+0.0"]
    assert loco["Cityscapes AP paper"] == "28.4" and loco["Cityscapes AP diff."] == EM_DASH
    random = next(line for line in lines if line["Method"] == "Random Init")
    assert random["COCO AP paper"] == random["COCO AP diff."] == EM_DASH


# ---- which runs may stand in the paper's table


@pytest.mark.parametrize(
    "changes",
    [
        {"deviations": ("1 epoch instead of 12",)},
        {"dataset": "scenes_coco"},
        {"dataset": "coco_mini"},
        {"protocol": "demo_frozen"},
        {"protocol": "frozen_64ep"},  # Cityscapes' protocol on COCO
        {"encoder": "resnet_tiny"},
        {"pretrain_epochs": 200},
        {
            "backbone": {
                "path": "b",
                "sha256": SHA,
                "provenance": {"dataset": "scenes", "deviations": []},
            }
        },
        {"backbone": {"path": "b", "sha256": SHA, "provenance": {"deviations": []}}},
        {"backbone": {"path": "b", "sha256": SHA, "provenance": {"dataset": "imagenet1k"}}},
        {
            "backbone": {
                "path": "b",
                "sha256": SHA,
                "provenance": {
                    "dataset": "imagenet1k",
                    "deviations": '["batch 64 instead of 4096"]',
                },
            }
        },
    ],
)
def test_no_other_run_enters_the_paper_s_table(tmp_path, changes):
    alone = tables_of(tmp_path / "alone", make_record(**changes))
    assert len(alone) == 1
    ((name, table),) = alone.items()
    assert name.startswith("other_") and table.title.endswith("not comparable with the paper")
    both = tables_of(tmp_path / "both", make_record(**changes), make_record(method="gim"))
    row = cell(
        both["table2"],
        method="loco",
        encoder="resnet50",
        pretrain_epochs=100,
        dataset="coco2017",
        metric="box_ap",
    )
    assert row["text"] == EM_DASH and row["n"] == 0
    assert (both["table2"].cells["n"] > 0).sum() == 2


def test_a_method_that_the_paper_has_not_stands_below_its_rows(tmp_path):
    """Under its own name, in its block; with a setting of its own, in another table."""
    own = make_record(method="my_layout", metrics={"box_ap": 33.0, "mask_ap": 31.0})
    changed = make_record(method="my_layout", settings={"units": "other"}, setting="units=other")
    tables = tables_of(tmp_path, make_record(), own, changed)
    rows = [row for row in tables["table2"].rows if row.key.pretrain_epochs == 100]
    assert [row.names for row in rows][-2:] == [("LoCo", "Sh-50"), ("my_layout", "R-50")]
    assert [cell.text for cell in rows[-1].cells] == ["33.0", "31.0", EM_DASH, EM_DASH]
    assert ",my_layout,R-50,33.0,31.0," in to_csv(tables["table2"])
    assert tables["other_frozen"].rows[0].names == ("my_layout", "R-50", "units=other")


def test_random_init_may_join_table_2(tmp_path):
    table = tables_of(tmp_path, make_record(method="random"), make_record())["table2"]
    assert table.cells.iloc[0]["Method"] == "Random Init"
    assert len(table.cells) == 52 + 4


def test_a_backbone_s_own_deviations_are_read_as_list_or_as_json():
    def found(provenance):
        backbone = {"path": "b", "sha256": SHA, "provenance": provenance}
        return backbone_deviations(make_record(backbone=backbone))

    base = {"dataset": "imagenet1k", "deviations": []}
    assert (
        found(base) == found(base | {"deviations": "[]"}) == found(base | {"deviations": ""}) == ()
    )
    assert found(base | {"deviations": ["a", "b"]}) == ("backbone: a", "backbone: b")
    assert found(base | {"deviations": '["a"]'}) == found(base | {"deviations": "a"})
    assert found(base | {"dataset": "scenes"}) == (
        "backbone pretrained on scenes, not on imagenet1k",
    )
    assert "does not list" in found({"dataset": "imagenet1k"})[0]
    assert len(found({})) == 2


@pytest.mark.parametrize(
    ("method", "origin", "stated"),
    [
        ("loco", {"deviations": ["100 of 800 epochs, learning rate not decayed"]}, False),
        ("loco", {"deviations": []}, True),
        ("supervised", {"source_sha256": "19c8e357" + SHA[8:]}, True),
        ("supervised", {"source_sha256": "11ad3fa6" + SHA[8:]}, False),  # torchvision's V2
        ("supervised", {}, False),  # of an earlier version, which asked nobody
    ],
)
def test_weights_that_are_not_what_the_row_says_fill_no_cell(tmp_path, method, origin, stated):
    backbone = {"path": "b", "sha256": SHA, "provenance": {"dataset": "imagenet1k"} | origin}
    (run,) = load(tmp_path, make_record(method=method, backbone=backbone))
    assert TABLE2.admits(run) == (run.backbone_deviations == ()) == stated


# ---- layout


def test_nothing_ran_is_an_em_dash_and_no_delta(tmp_path):
    table = tables_of(tmp_path, make_record())["table2"]  # no SimCLR to compare with
    assert box(table, "loco", encoder="resnet50", pretrain_epochs=100, dataset="coco2017") == "32.6"
    assert (table.cells["text"] == EM_DASH).sum() == 50


def test_bold_is_the_best_of_block_and_column_ties_included(tmp_path):
    aps = {"simclr": 30.04, "gim": 20.0, "loco": 29.96}  # 30.0 both, as printed
    records = [make_record(method=m, metrics={"box_ap": ap}) for m, ap in aps.items()]
    records = twice(*records, make_record(method="random"))
    table = tables_of(tmp_path, *records)["table2"]
    best = table.cells[table.cells["best"]]
    assert set(best["method"]) == {"simclr", "loco"} and set(best["metric"]) == {"box_ap"}


@pytest.mark.parametrize(
    ("value", "printed"), [(29.25, "29.3"), (29.35, "29.4"), (0.049, "0.0"), (2.449999, "2.4")]
)
def test_halves_go_up_whatever_the_binary_fraction(value, printed):
    assert rounded(value) == Decimal(printed)


def test_deltas_subtract_what_is_printed(tmp_path):
    """30.04 and 29.96 print as 30.0 twice, so their delta prints as +0.0, not as -0.1."""
    records = [
        make_record(**DEMO, method="simclr", metrics={"box_ap": 30.04}),
        make_record(**DEMO, method="loco", metrics={"box_ap": 29.96}),
        make_record(**DEMO, method="gim", metrics={"box_ap": 29.94}),
    ]
    table = tables_of(tmp_path, *twice(*records))["other_demo_frozen"]
    assert box(table, "loco") == "30.0 ± 0.0, n=2 (+0.0)"
    assert box(table, "gim") == "29.9 ± 0.0, n=2 (-0.1)"


@pytest.mark.parametrize(
    ("seeds", "text", "bold"),
    [
        ({"simclr": 1, "loco": 1}, "31.0", False),
        ({"simclr": 1, "loco": 2}, "31.0 ± 0.0, n=2", False),
        ({"simclr": 2, "loco": 1}, "31.0", False),
        ({"simclr": 2, "loco": 2, "gim": 1}, "31.0 ± 0.0, n=2 (+1.0)", False),
        ({"simclr": 2, "loco": 2, "gim": 2}, "31.0 ± 0.0, n=2 (+1.0)", True),
    ],
)
def test_a_single_run_is_neither_compared_nor_the_best(seeds, text, bold, tmp_path):
    """How far two runs of one method lie apart is not known then; nor do notes speak of it."""
    aps = {"simclr": 30.0, "loco": 31.0, "gim": 29.0}
    records = [
        make_record(**DEMO, method=method, seed=seed, metrics={"box_ap": aps[method]})
        for method, n in seeds.items()
        for seed in range(n)
    ]
    frame = load(tmp_path, *records)
    (table,) = transfer_tables(frame)
    found = cell(table, method="loco", metric="box_ap")
    assert (found["text"], found["best"]) == (text, bold)
    compared = "(" in text
    assert pd.isna(found["delta"]) != compared
    for form, write in FORMATS.items():
        printed = write(table)
        assert any(word in printed for word in ("**31", "<strong>", "textbf")) == (
            bold and form in (".md", ".html", ".tex")
        )
        assert ("+1.0" in printed) == (compared and form != "_values.csv")
    notes = " ".join(note.text for note in table.notes)
    assert ("In parentheses" in notes, "Bold" in notes) == (compared, bold)
    assert ("Best box AP on" in render_report(frame)[0]) == bold


def test_seeds_and_splits_are_averaged_with_std_and_n(tmp_path):
    aps = [30.0, 31.0, 33.5]  # mean 31.5; sample std sqrt((2.25 + 0.25 + 4) / 2) = 1.803
    records = [make_record(**DEMO, seed=i, metrics={"box_ap": ap}) for i, ap in enumerate(aps)]
    records += twice(make_record(**DEMO, method="simclr", metrics={"box_ap": 31.0}))
    table = tables_of(tmp_path, *records)["other_demo_frozen"]
    found = cell(table, method="loco", metric="box_ap")
    assert found["text"] == "31.5 ± 1.8, n=3 (+0.5)"
    assert found["n"] == 3 and found["std"] == pytest.approx(1.8027756)
    assert len(found["records"]) == 3


def test_runs_that_deviate_differently_are_neither_averaged_nor_compared(tmp_path):
    short = {"deviations": ("1 epoch instead of 12",)}
    records = [
        make_record(**DEMO, method="simclr", metrics={"box_ap": 30.0}, **short),
        make_record(**DEMO, metrics={"box_ap": 31.0}, **short),
        make_record(**DEMO, metrics={"box_ap": 40.0}),
    ]
    table = tables_of(tmp_path, *twice(*records))["other_demo_frozen"]
    assert box(table, "loco", variant=0) == "40.0 ± 0.0, n=2"
    assert box(table, "loco", variant=1) == "31.0 ± 0.0, n=2 (+1.0)"
    assert cell(table, method="loco", variant=1, metric="box_ap")["best"]


def test_footnotes_say_each_deviation_once_where_it_belongs(tmp_path):
    both = ("both",)
    records = [
        make_record(**DEMO, method="random", deviations=("coco", *both)),
        make_record(**DEMO, method="simclr", deviations=("coco", *both)),
        make_record(**DEMO, method="loco", deviations=("coco", *both, "one")),
        make_record(**(DEMO | {"dataset": "scenes_cityscapes"}), deviations=both),
    ]
    table = tables_of(tmp_path, *records)["other_demo_frozen"]
    texts = {note.mark: note.text for note in table.notes if note.mark}
    plain = [note.text for note in table.notes if not note.mark]
    assert "Every run: both." in plain and sorted(texts.values()) == ["coco.", "one."]
    letters = {text: mark for mark, text in texts.items()}
    heads = dict(zip(table.cells["dataset"], table.cells["group_mark"], strict=True))
    assert heads == {"scenes_coco": letters["coco."], "scenes_cityscapes": ""}
    marked = table.cells[table.cells["mark"] != ""]
    assert set(marked["mark"]) == {letters["one."]}
    assert set(marked["method"]) == {"loco"} and set(marked["dataset"]) == {"scenes_coco"}


def test_footnotes_say_nothing_twice(tmp_path):
    """Another pretraining set is one fact, and what the column Setting says is said there."""
    told = [
        "dataset: photos instead of imagenet1k",
        "images: 400 instead of 1281167",
        "decoder: {'conv_blocks': 2} instead of {'conv_blocks': 1}",
    ]
    provenance = {"dataset": "photos", "deviations": told}
    backbone = {"path": "b", "sha256": SHA, "provenance": provenance}
    decoder = {"conv_blocks": 2, "mlp_layers": 2, "out_dim": 128}
    record = make_record(
        backbone={"path": "b", "sha256": SHA, "provenance": provenance},
        settings={"units": "loco", "decoder": decoder},
    )
    (table,) = tables_of(tmp_path, record).values()
    assert table.cells["setting"].unique().tolist() == ["conv_blocks=2"]
    assert [note.text for note in table.notes] == [
        "Every run: backbone pretrained on photos, not on imagenet1k; "
        "backbone: images: 400 instead of 1281167."
    ]
    provenance["deviations"] = ["dataset: photos instead of cifar10"]
    found = backbone_deviations(make_record(backbone=backbone | {"provenance": provenance}))
    assert found == ("backbone pretrained on photos, not on imagenet1k",)
    provenance["deviations"] = ["dataset: drawings instead of imagenet1k"]
    found = backbone_deviations(make_record(backbone=backbone | {"provenance": provenance}))
    assert len(found) == 2, "two that do not agree are both told"


def test_demo_runs_stand_in_blocks_with_random_init_first(tmp_path):
    records = [make_record(**DEMO, method=m, metrics={"box_ap": 5.0}) for m in METHODS]
    records.append(make_record(**DEMO, method="loco", pretrain_epochs=1))
    table = tables_of(tmp_path, *records)["other_demo_frozen"]
    assert table.title == "Embedded scenes, demo schedule - not comparable with the paper"
    assert table.cells["group_label"].unique().tolist() == ["Scenes, COCO format"]
    rows = table.cells.drop_duplicates("row")
    assert list(zip(rows["block"], rows["Method"], strict=True)) == [
        ("", "Random Init"),
        ("", "Supervised"),
        ("Backbone weights with 1 Epoch", "LoCo"),
        ("Backbone weights with 100 Epochs", "SimCLR"),
        ("Backbone weights with 100 Epochs", "GIM"),
        ("Backbone weights with 100 Epochs", "LoCo"),
    ]


def test_protocol_names_make_safe_and_distinct_file_names(tmp_path):
    records = [make_record(protocol=name) for name in ("a/b", "a-b", "../a b", "a?b")]
    records += [make_record(protocol="a" * 299 + last) for last in "bc"]
    names = list(tables_of(tmp_path, *records))
    assert len(set(names)) == 6 and all(re.fullmatch(r"[\w.-]+", name) for name in names)
    assert max(map(len, names)) < 200, "suffixes and a partial file's own come to it"


def test_values_csv_leads_back_to_the_records(tmp_path):
    table = tables_of(tmp_path, make_record(metrics={"box_ap": 32.5678}))["table2"]
    (line,) = csv.DictReader(io.StringIO(to_values_csv(table)))
    assert float(line["value"]) == 32.5678 and float(line["shown"]) == 32.6
    assert line["records"] == str(tmp_path / "run0" / "record.json")


# ---- formats


@pytest.fixture
def hostile(tmp_path):
    """A table in which every string that comes from a record is hostile."""
    changes = {"dataset": HOSTILE, "encoder": HOSTILE, "protocol": HOSTILE}
    records = [
        make_record(**changes, deviations=(HOSTILE, LATIN + "中 \N{EM DASH}\n")),
        make_record(**(changes | {"dataset": "b_c"}), method="simclr", deviations=("[x] $y",)),
    ]
    (table,) = tables_of(tmp_path / "records", *records).values()
    return table


def test_html_holds_no_hostile_markup(hostile):
    page = FORMATS[".html"](hostile)
    assert "<script" not in page and "&lt;script&gt;" in page
    tags = set(re.findall(r"</?(\w+)", page))
    known = {"html", "head", "meta", "title", "body", "table", "caption", "thead", "tbody"}
    assert tags <= known | {"tr", "th", "td", "sup", "ul", "li", "strong", "span"}


def test_markdown_rows_have_equal_columns(tmp_path, hostile):
    paper = tables_of(tmp_path / "paper", *twice(*paper_table2_records()))["table2"]
    for table, columns in ((hostile, 6), (paper, 6)):
        rows = [line for line in to_markdown(table).splitlines() if line.startswith("|")]
        assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {columns + 1}
        assert "<script" not in re.sub(r"\\<", "", to_markdown(table))
    assert " **34.8 ± 0.0, n=2** |" in to_markdown(paper)
    assert " 27.7 ± 0.0, n=2 (-4.5) |" in to_markdown(paper)


def test_latex_is_balanced_with_equal_columns(tmp_path, hostile):
    paper = tables_of(tmp_path / "paper", *twice(*paper_table2_records()))["table2"]
    for table in (paper, hostile):
        text = to_latex(table).replace(FITTED, "")
        bare = re.sub(r"\\[\\{}&%$#_]", "", text)
        assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0
        assert "%" not in bare and "#" not in bare and r"\input" not in text
        assert not set("<>|") & set(text)  # other signs in LaTeX's own font encoding
        rows = [line for line in text.splitlines() if line.endswith(r" \\")]
        spans = [
            sum(int(n) - 1 for n in re.findall(r"\\multicolumn\{(\d+)\}", row))
            + len(re.findall(r"(?<!\\)&", row))
            + 1
            for row in rows
        ]
        assert set(spans) == {6}
    spread = r"{\scriptsize~$\pm$ 0.0, n=2}"
    assert rf"27.7{spread} ($-4.5$) & 25.7{spread} ($-4.2$) & 30.0{spread}" in to_latex(paper)
    assert r"\multicolumn{6}{c}{Backbone weights with 800 Epochs} \\" in to_latex(paper)


def test_html_marks_values_links_and_missing_cells(tmp_path):
    table = tables_of(tmp_path, *twice(*paper_table2_records()[:-1]))["table2"]
    page = to_html(table, lambda cell: Trace(f'from "{cell.n}"', "#run-1"))
    assert page.count('<a href="#run-1">') == page.count('title="from &quot;2&quot;"') == 50
    assert page.count(f"<td>{EM_DASH}</td>") == 2
    spread = '<span class="spread">± 0.0, n=2</span>'
    assert f'27.7</a> {spread} <span class="delta">(\N{MINUS SIGN}4.5)</span>' in page
    assert "32.6</a></strong>" in page or "<strong>32.6</strong></a>" in page
    assert '<span class="delta">(+0.4)</span>' in page
    assert '<th scope="col">AP<sup>bb</sup></th>' in page


def test_every_column_asked_for_is_there_even_without_runs(tmp_path):
    frame = load(tmp_path, make_record())
    columns = [(dataset, metric) for dataset in ("coco2017", "other") for metric in METRICS]
    rows = [RowKey(100, "loco", "resnet50"), RowKey(100, "gim", "x")]
    found = rows_of_runs(frame, columns, rows)
    texts = [cell.text for key in rows for cell in found[key]]
    assert len(found) == 2 and len(texts) == 8 and texts.count(EM_DASH) == 6
