"""Tables 4 and 5 from readouts, told apart by how their backbones' pretraining was set."""

import ast
import json

import pytest

from results.record.labels import EM_DASH
from results.record.migration import setting_until_version_3 as setting
from results.tables.backbone import unexplained
from results.tables.grid import RowKey
from results.tables.load import load_records
from results.tables.paper import TABLE1, TABLE4, TABLE5, TABLE7, optional_int
from results.tables.run_tables import linear_tables
from results.tables.writers import to_csv, to_latex, to_markdown
from tests.helpers.places import ROOT
from tests.helpers.run_records import SHA, make_record, write_records

CONFIGS = sorted((ROOT / "configs" / "ablations").glob("*.py"))
SETTINGS = {  # of the methods as they are, as a pretraining's provenance has them
    "simclr": {"units": "simclr", "decoder": {"conv_blocks": 0, "mlp_layers": 2, "out_dim": 128},
               "temperature": 0.1, "sharing": None},
    "gim": {"units": "gim", "decoder": {"conv_blocks": 1, "mlp_layers": 2, "out_dim": 128},
            "temperature": 0.1, "sharing": None},
    "loco": {"units": "loco", "decoder": {"conv_blocks": 1, "mlp_layers": 2, "out_dim": 128},
             "temperature": 0.1, "sharing": None},
}  # fmt: skip
DECODER = ("conv_blocks", "mlp_layers", "further_stages", "downsample")


def settings_of(method, text):
    """The settings that `text`, of paper.csv, stands for, and the deviations that they bring."""
    settings = json.loads(json.dumps(SETTINGS[method]))
    changes = [change.split("=") for change in text.split()]
    for name, value in changes:
        value = value if name == "units" else ast.literal_eval(value)  # "2", "False", "0.001"
        if name in DECODER:
            settings["decoder"][name] = value
        elif name == "units":
            settings["units"] = value
        else:
            settings["sharing"] = {name: value}
    deviations = [
        f"{name}: {value} instead of {SETTINGS[method][name]}"
        for name, value in settings.items()
        if value != SETTINGS[method][name]
    ]
    return settings, deviations


def readout(row, value=60.0, deviations=(), **changes):
    settings, departs = settings_of(row.method, row.setting)
    provenance = {"dataset": "imagenet1k", "seed": 0, "settings": settings}
    provenance |= {"deviations": [*departs, *deviations]}
    given = {
        "kind": "linear",
        "dataset": "imagenet1k",
        "protocol": "linear",
        "method": row.method,
        "encoder": row.encoder,
        "pretrain_epochs": optional_int(row.pretrain_epochs),
        "metrics": {"top1": value},
        "settings": settings,
        "backbone": {"path": "b.safetensors", "sha256": SHA, "provenance": provenance},
    }
    return make_record(**(given | changes))


def tables_of(tmp_path, *records):
    frame, problems = load_records([write_records(tmp_path, *records)])
    assert problems == []
    return {table.name: table for table in linear_tables(frame)}


@pytest.mark.parametrize(("paper", "count"), [(TABLE4, 12), (TABLE5, 8)])
def test_a_table_is_rebuilt_as_printed(paper, count, tmp_path):
    records = [readout(row, row.value) for row in paper.values.itertuples()]
    table = tables_of(tmp_path, *records)[f"table{paper.number}"]
    names = [row.names for row in table.rows]
    printed = paper.values["row"].str.replace("Ours", "LoCo").tolist()
    ticks = ("local", "sharing")
    shown = [
        ", ".join([name, *(word for word, tick in zip(ticks, marks, strict=False) if tick)])
        for name, *marks in names
    ]
    assert shown == printed and len(shown) == count
    assert table.cells["text"].tolist() == paper.values["printed"].tolist()
    assert set(table.cells["group_label"]) == {"ImageNet-1K"}
    assert table.notes == () or all(not note.mark for note in table.notes)
    assert not table.cells["best"].any(), "single runs"


def test_table_4_line_by_line(tmp_path):
    records = [readout(row, row.value) for row in TABLE4.values.itertuples()]
    tables = tables_of(tmp_path, *records)
    lines = to_csv(tables["table4"]).splitlines()
    assert lines[0] == "Block,Extra layers before MLP decoder,Local,Sharing,ImageNet-1K Acc."
    assert lines[1:5] == [
        ",None,,,65.7",
        ",None,✓,,60.9",
        ",1 conv block,,,65.6",
        ",1 conv block (w/o ds),✓,,63.6",
    ]
    assert lines[-1] == ",LoCo + 2-layer MLP,✓,✓,67.5"
    assert r"LoCo + 2-layer MLP & $\surd$ & $\surd$ & 67.5 \\" in to_latex(tables["table4"])
    assert "Block" not in to_markdown(tables["table4"])
    beside = tables["table4_paper"].cells
    assert beside[beside["row"] == 11]["text"].tolist() == ["67.5", "67.5", "+0.0"]


def test_one_readout_fills_its_row_in_both_tables(tmp_path):
    """GIM as it is, at 100 epochs, is Table 4's "1 conv block" and Table 5's "No sharing"."""
    (row,) = (r for r in TABLE5.values.itertuples() if r.row == "No sharing")
    tables = tables_of(tmp_path, readout(row))
    for name, label in (("table4", "1 conv block"), ("table5", "No sharing")):
        cells = tables[name].cells
        assert cells[cells["n"] > 0]["row_label"].tolist() == [label]
    assert set(tables) == {"table4", "table4_paper", "table5", "table5_paper"}


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": {}},  # as a record of version 1: nobody knows which ablation it was
        {"settings": SETTINGS["gim"] | {"temperature": 0.2}},
        {"settings": SETTINGS["gim"] | {"decoder": {"conv_blocks": 3, "mlp_layers": 2}}},
        {"settings": SETTINGS["gim"] | {"units": [[0, 1], [2, 3]]}},
        {"pretrain_epochs": 800},
        {"encoder": "shufflenetv2_50"},
        {"deviations": ("epochs: 10 instead of 100",)},
        {"dataset": "imagenet1k (100+50 images)"},
        {"kind": "transfer"},
    ],
)
def test_no_other_run_enters_table_4_or_5(changes, tmp_path):
    (row,) = (r for r in TABLE4.values.itertuples() if r.setting == "conv_blocks=2")
    found = tables_of(tmp_path / "other", readout(row, **changes))
    assert not {"table1", "table4", "table5"} & set(found)
    assert {"table4", "table4_paper"} == set(tables_of(tmp_path / "it", readout(row)))


@pytest.mark.parametrize("deviation", ["epochs: 90 instead of 100", "lr: 2.4 instead of 4.8"])
def test_an_ablation_that_deviates_otherwise_stays_out(deviation, tmp_path):
    (row,) = (r for r in TABLE4.values.itertuples() if r.setting == "conv_blocks=2")
    assert "table4" not in tables_of(tmp_path, readout(row, deviations=[deviation]))


def test_an_ablation_enters_no_other_table_of_the_paper(tmp_path):
    for row in TABLE4.values.itertuples():
        run = load_records([write_records(tmp_path / str(row.Index), readout(row))])[0][0]
        assert TABLE4.admits(run)
        assert not TABLE7.admits(run) and not TABLE1.admits(run)
        assert TABLE5.admits(run) == (row.setting == "" and row.method != "simclr")


def test_seeds_of_an_ablation_are_averaged_and_its_repetition_replaces_it(tmp_path):
    (row,) = (r for r in TABLE4.values.itertuples() if r.setting == "conv_blocks=2")
    records = [readout(row, 65.0 + seed, seed=seed) for seed in range(3)]
    records.append(readout(row, 70.0, seed=2, finished_at="2026-02-01T00:00:00Z"))
    frame, problems = load_records([write_records(tmp_path, *records)])
    assert [problem.kind for problem in problems] == ["superseded"]
    table = {table.name: table for table in linear_tables(frame)}["table4"]
    texts = table.cells[table.cells["n"] > 0]["text"].tolist()
    assert texts == ["67.0 ± 2.6, n=3"]  # 65, 66, 70: sqrt((4 + 1 + 9) / 2) = 2.646
    assert (table.cells["text"] == EM_DASH).sum() == 11


def test_readouts_of_two_ablations_are_two_runs(tmp_path):
    """They agree in method, epochs, protocol, seed: only their backbones' settings differ."""
    rows = [row for row in TABLE4.values.itertuples() if row.method == "gim"]
    frame, problems = load_records([write_records(tmp_path, *(readout(row) for row in rows))])
    assert len(frame) == len(rows) == 7 and problems == []


# ---- settings


def test_settings_are_told_by_what_they_change():
    assert setting("gim", {}) == setting("gim", SETTINGS["gim"]) == ""
    assert setting("simclr", SETTINGS["gim"]) == "conv_blocks=1 units=gim"
    assert setting("loco", SETTINGS["loco"] | {"sharing": {"l2": 1e-4}}) == "l2=0.0001"
    bare = SETTINGS["gim"] | {"decoder": {}}  # the decoder's own defaults: no conv block
    assert setting("gim", bare) == "conv_blocks=0"
    assert setting("gim", SETTINGS["gim"] | {"queue": 5}) == "queue=5"


def test_only_a_known_setting_explains_a_deviation():
    deviations = ("backbone: decoder: {} instead of {}", "backbone: lr: 1 instead of 2")
    assert unexplained(deviations, "conv_blocks=2") == deviations[1:]
    assert unexplained(deviations, "") == deviations
    assert unexplained(("decoder: x",), "conv_blocks=2") == ("decoder: x",)  # not the backbone's


@pytest.mark.slow
def test_every_config_of_an_ablation_is_a_row_of_its_table():
    """What a run of each config would record, against paper.csv: the link from run to cell."""
    from mmengine.config import Config

    from pretrain.hooks import stated_values
    from pretrain.methods import settings_of
    from pretrain.train import prepare_method
    from results.record.protocol import deviations

    rows = {4: [], 5: [], 7: []}
    for path in CONFIGS:
        if not path.name.startswith("table"):
            continue
        cfg = Config.fromfile(path)
        prepare_method(cfg)
        did = {**stated_values(cfg), "dataset": "imagenet1k", "images": 1281167}
        settings = json.loads(json.dumps(settings_of(cfg.model)))
        key = RowKey(cfg.epochs, cfg.method, cfg.model.encoder, setting(cfg.method, settings))
        table = {4: TABLE4, 5: TABLE5, 7: TABLE7}[int(path.name[len("table")])]
        departs = [f"backbone: {text}" for text in deviations(cfg.protocol.states, did)]
        assert unexplained(departs, key.setting) == (), path.name
        assert bool(departs) == bool(key.setting), path.name
        cells = table.values
        (value,) = cells[
            (cells["method"] == key.method)
            & (cells["setting"] == key.setting)
            & (cells["metric"] == "top1")
        ]["value"]
        assert f"{value} % top-1" in path.read_text(), path.name
        rows[table.number].append(key)
    assert len(rows[4]) == 12 and len(rows[5]) == 8 and len(rows[7]) == 3
    for table in (TABLE4, TABLE5, TABLE7):
        assert set(rows[table.number]) == set(table.rows)
