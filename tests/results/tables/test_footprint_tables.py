"""Tables 6, 7 and 8 from footprint reports, and which reports may fill them."""

import json
import re
from pathlib import Path

import pytest

from results.__main__ import main
from results.record.labels import EM_DASH
from results.tables.every_table import all_tables
from results.tables.footprints import best_report, load_footprints
from results.tables.load import load_records
from results.tables.paper import TABLE6, TABLE7
from results.tables.writers import FORMATS, to_csv, to_latex
from tests.helpers.places import MEASURED
from tests.helpers.run_records import make_record, write_records


def report(encoder="presnet50", **changes):
    """A report that says what the paper says."""
    shares = {
        metric: cells["value"].tolist()
        for metric, cells in TABLE6.values.query("encoder == @encoder").groupby("metric")
    }
    stages = [
        {"name": f"res{k + 2}", "memory_percent": memory, "flops_percent": flops}
        for k, (memory, flops) in enumerate(
            zip(shares["memory_percent"], shares["flops_percent"], strict=True)
        )
    ]
    ratios = TABLE7.values.query("metric == 'saving_ratio'").set_index("method")["value"]
    methods = {
        name: {"peak_memory_mib": 5000 / ratio, "saving_ratio": ratio, "work_ratio": 1.1}
        | {"step_ratio": None, "setting": "no recomputation"}
        for name, ratio in ratios.items()
    }
    (total,) = shares["flops_g"]
    given = {"encoder": encoder, "image_size": 224, "batch_size": 64, "world_size": 1}
    given |= {"precision": "float32", "flops_g": total, "stages": stages, "methods": methods}
    return given | changes


def write(folder, *reports):
    folder.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(reports):
        (folder / f"footprint_{number}.json").write_text(json.dumps(content))
    return folder


def tables_of(folder):
    records, _ = load_records([folder])
    footprints, problems = load_footprints([folder])
    assert problems == []
    return {table.name: table for table in all_tables(records, footprints)}


def readouts():
    return [
        make_record(
            kind="linear", dataset="imagenet1k", protocol="linear", method=row.method,
            encoder="presnet50", metrics={"top1": row.value},
        )
        for row in TABLE7.values.itertuples()
        if row.metric == "top1"
    ]  # fmt: skip


# ---- Table 6


def test_table_6_is_rebuilt_as_printed(tmp_path):
    tables = tables_of(write(tmp_path, report(), report("resnet50")))
    lines = to_csv(tables["table6"]).splitlines()
    assert lines == [
        "Block,Stage,PResNet-50 Mem. (%),PResNet-50 FLOPS (%),"
        "ResNet-50 Mem. (%),ResNet-50 FLOPS (%)",
        ",res2,15.46,13.50,43.64,19.39",
        ",res3,10.96,14.63,29.09,25.09",
        ",res4,19.48,14.77,21.82,35.80",
        ",res5,17.31,16.62,5.45,19.73",
        ",res6,19.48,20.45,-,-",
        ",res7,17.31,20.04,-,-",
        ",FLOPs,4.16G,,4.14G,",
    ]
    beside = tables["table6_paper"].cells
    differences = beside[beside["column_label"].str.endswith("diff.")]["text"]
    assert set(differences) == {"+0.00", "-", ""}
    assert "128 base channels" in tables["table6_paper"].notes[0].text
    assert r"(\%)" in to_latex(tables["table6"])


def test_one_encoder_alone_leaves_the_other_s_cells_empty(tmp_path):
    cells = tables_of(write(tmp_path, report("resnet50")))["table6"].cells
    assert set(cells[cells["encoder"] == "presnet50"]["text"]) == {EM_DASH, ""}
    assert len(cells[cells["n"] > 0]) == 9


# ---- Table 7


def test_table_7_is_rebuilt_as_printed(tmp_path):
    write_records(tmp_path, *readouts())
    tables = tables_of(write(tmp_path, report()))
    assert to_csv(tables["table7"]).splitlines() == [
        "Block,Method,Acc.,Memory Saving Ratio",
        ",SimCLR,66.8,1×",
        ",GIM,52.6,4.56×",
        ",LoCo,66.6,2.76×",
    ]
    told = [[note.text for note in tables[name].notes] for name in ("table7", "table7_paper")]
    assert len(told[0]) == len(told[1]) == 1, "no bold among single runs"
    beside = tables["table7_paper"].cells.sort_values(["row", "column"])
    assert beside[beside["method"] == "gim"]["text"].tolist() == [
        "52.6", "52.6", "+0.0", "4.56×", "4.56×", "+0.00",
    ]  # fmt: skip
    assert "64 images over 1 process in float32" in tables["table7"].notes[-1].text
    assert "other_linear" not in tables
    assert "table1" not in tables


@pytest.mark.parametrize(("linear", "column"), [(True, "Memory Saving Ratio"), (False, "Acc.")])
def test_half_of_table_7_leaves_the_other_half_empty(linear, column, tmp_path):
    if linear:
        write_records(tmp_path, *readouts())
    else:
        write(tmp_path, report())
    cells = tables_of(tmp_path)["table7"].cells
    assert set(cells[cells["n"] == 0]["column_label"]) == {column}
    assert set(cells[cells["column_label"] == column]["text"]) == {EM_DASH}


def test_a_demo_s_readout_stays_out_of_table_7(tmp_path):
    demo = make_record(
        kind="linear", dataset="cifar (20+10 images)", protocol="linear", encoder="presnet50",
        metrics={"top1": 9.0},
    )  # fmt: skip
    tables = tables_of(write_records(tmp_path, demo))
    assert "table7" not in tables and tables["other_linear"].title.endswith("with the paper")


# ---- which report


def test_the_report_of_the_most_images_a_process_stands_in_the_tables(tmp_path):
    many = report(batch_size=256)
    shared = report(batch_size=512, world_size=8)
    half = report(batch_size=1024, precision="bfloat16")
    small = report(batch_size=4096, image_size=32)
    folder = write(tmp_path, shared, many, half, small, report())
    reports, _ = load_footprints([folder])
    best = best_report(reports, "presnet50")
    assert best is not None and best.path == str(folder / "footprint_1.json")
    assert best_report(reports, "shufflenetv2_50") is None
    names = [name for name in tables_of(folder) if name.startswith("footprint")]
    assert len(names) == 5, "each has a table of its own"
    assert all(re.fullmatch(r"[\w.+-]+", name) for name in names)


@pytest.mark.parametrize(
    "changes", [{"encoder": "../../x"}, {"precision": "/x"}, {"encoder": "x" * 4000}]
)
def test_no_name_in_a_report_leads_out_of_the_folder(changes, tmp_path):
    folder = write(tmp_path / "in", report() | changes)
    assert main([str(folder), "--out", str(tmp_path / "out")]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}
    assert {path.name for path in (tmp_path / "out").iterdir()} <= {
        *("tables", "figures", "report.html"),
    }
    assert all(path.is_file() for path in (tmp_path / "out/tables").iterdir())


def test_no_other_image_size_enters_table_6(tmp_path):
    assert "table6" not in tables_of(write(tmp_path, report(image_size=32)))


def test_several_reports_in_one_file_and_bad_ones(tmp_path):
    write(tmp_path, {"machine": {}, "reports": [report(), report("resnet50")]})
    (tmp_path / "footprint_bad.json").write_text("{")
    (tmp_path / "footprint_list.json").write_text("[1]")
    (tmp_path / "footprint_half.json").write_text(json.dumps(report() | {"flops_g": "4"}))
    (tmp_path / "other.json").write_text("{")
    reports, problems = load_footprints([tmp_path, tmp_path / "footprint_0.json"])
    assert [r.encoder for r in reports] == ["presnet50", "resnet50"]
    reasons = {Path(problem.path).name: problem.reason for problem in problems}
    assert set(reasons) == {f"footprint_{name}.json" for name in ("bad", "list", "half")}
    assert "not a JSON file" in reasons["footprint_bad.json"]
    assert "Expected `float`, got `str` - at `$[0].flops_g`" in reasons["footprint_half.json"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encoder": "x" * 4097}, "of 4097 characters"),
        ({"command": "x" * 4097}, "of 4097 characters"),
        ({"machine": {"x" * 4097: 1}}, "found the key"),
        ({"notes": ["x"] * 1001}, "notes']: found 1001 entries"),
        ({"stages": [report()["stages"][0]] * 1001}, "found 1001 entries"),
        ({"command": ["python"]}, "got `array` - at `$[0].command`"),
        ({"machine": ["a CPU"]}, "got `array` - at `$[0].machine`"),
        ({"versions": "1"}, "got `str` - at `$[0].versions`"),
        ({"measured_batch_size": "64"}, "got `str` - at `$[0].measured_batch_size`"),
        ({"architecture": ["stem"]}, "Expected `object`, got `str` - at `$[0].architecture[0]`"),
        ({"architecture": [{"layer": "stem"}]}, "missing required field `output_size`"),
        ({"methods": {"loco": report()["methods"]["loco"] | {"step_ratio": "2x"}}}, "step_ratio"),
        ({"methods": {"loco": report()["methods"]["loco"] | {"step_ratio": 1e300}}}, "step_ratio"),
    ],
)
def test_what_no_table_could_hold_is_named(changes, words, tmp_path):
    reports, (problem,) = load_footprints([write(tmp_path, report() | changes)])
    assert reports == [] and words in problem.reason and len(problem.reason) < 600


def test_the_command_takes_reports_beside_runs(tmp_path, capsys):
    write_records(tmp_path / "runs", *readouts())
    file = write(tmp_path / "reports", report()) / "footprint_0.json"
    out = tmp_path / "out"
    assert main([str(tmp_path / "runs"), str(file), "--out", str(out)]) == 0
    assert "problems: 0" in capsys.readouterr().out
    assert ",GIM,52.6,4.56×" in (out / "tables" / "table7.csv").read_text()
    page = (out / "report.html").read_text()
    assert "4.56×" in page and str(file) in page
    values = (out / "tables" / "table6_values.csv").read_text()
    assert str(file) in values


# ---- what this project counted


def test_our_own_reports_fill_tables_6_to_8():
    reports, problems = load_footprints([MEASURED])
    assert problems == [] and {r.encoder for r in reports} >= {"presnet50", "resnet50"}
    records, _ = load_records([])
    tables = {table.name: table for table in all_tables(records, reports)}
    lines = to_csv(tables["table8"]).splitlines()
    assert lines[3] == (
        ',res3_x,36×36,"[3×3, 96; 3×3, 96] × 3",28×28,"[1×1, 128; 3×3, 128; 1×1, 512] × 4"'
    )
    assert lines[6].endswith(",-,-") and lines[6].startswith(",res6_x,12×12")
    assert len(lines) == 8
    shares = tables["table6_paper"].cells
    shares = shares[shares["column_label"].str.endswith("diff.") & shares["text"].str.len().gt(1)]
    for _, cell in shares[shares["encoder"] == "resnet50"].iterrows():
        assert abs(float(cell["text"])) <= (0.01 if cell["metric"] == "memory_percent" else 0.2)
    for table in tables.values():
        for to_text in FORMATS.values():
            assert to_text(table)


@pytest.mark.slow
def test_the_architecture_is_that_of_the_encoders():
    from pretrain.costs.architecture import architecture

    for name in ("presnet50", "resnet50"):
        stored = json.loads((MEASURED / f"footprint_{name}_cpu.json").read_text())
        assert stored["architecture"] == architecture(name)
