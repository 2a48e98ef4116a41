"""The plans against the paper's numbers and against the configs that they name."""

import pandas as pd
import pytest
from mmengine.config import Config

from pretrain.engine.launch import argument_parser, load_config
from pretrain.engine.same_config import config_text
from pretrain.methods import complete, setting_of, settings_of
from pretrain.train import NAMES
from results.plan.demo_tables import DEMO
from results.plan.gpu_hours import COCO_1X, IMAGENET, gpu_hours
from results.plan.paper_tables import PAPER
from results.plan.run import TRAINERS, in_order
from tests.helpers.places import ROOT

ALL = {
    f"{scale} {run.name}": run
    for scale, plans in (("paper", PAPER), ("demo", DEMO))
    for runs in plans.values()
    for run in in_order(runs)
}
TRAININGS = {name: run for name, run in ALL.items() if run.kind in TRAINERS}


@pytest.fixture(scope="module")
def read():
    """A config by its path, each once."""
    found = {}

    def from_file(path):
        if path not in found:
            found[path] = Config.fromfile(ROOT / path, import_custom_modules=False)
        return found[path].copy()

    return from_file


def options(run):
    """--cfg-options as mmengine understands them, folders apart."""
    pairs = (argument.split("=", 1) for argument in run.arguments if "{" not in argument)
    return {name: int(value) if value.isdecimal() else value for name, value in pairs}


def paper_rows(table):
    values = pd.read_csv(ROOT / "results/tables/paper.csv", dtype={"pretrain_epochs": "Int64"})
    values = values[(values["table"] == table) & values["method"].notna()]
    keys = values[["method", "encoder", "pretrain_epochs", "dataset", "setting"]].drop_duplicates()
    return {
        tuple(None if pd.isna(value) else value for value in key)
        for key in keys.itertuples(index=False)
    }


@pytest.mark.slow
@pytest.mark.parametrize("table", [1, 2, 3, 4, 5, 7])
def test_the_plan_runs_what_the_paper_s_table_has_and_no_more(table, read):
    planned = [
        (
            *(run.method, run.encoder, run.epochs, read(run.config).protocol.states.dataset),
            *(pretraining_setting(run, read), run.split),
        )
        for run in PAPER[f"table{table}"]
        if run.kind in TRAINERS
    ]
    splits = range(5) if table == 3 else [None]
    expected = {(*row, split) for row in paper_rows(table) for split in splits if row[3]}
    assert len(planned) == len(expected) and set(planned) == expected


def pretraining_setting(run, read):
    """What the pretraining of a run's weights changes of its method, by its config."""
    for need in run.needs:
        if need.kind == "pretrain":
            model = dict(read(need.config).model)
            complete(model, need.method)
            return setting_of(need.method, settings_of(model)) or None
    return None


def test_the_footprints_of_tables_6_and_7_are_planned():
    for table in (6, 7):
        values = pd.read_csv(ROOT / "results/tables/paper.csv")
        footprints = {r.name for r in in_order(PAPER[f"table{table}"]) if r.kind == "footprint"}
        encoders = set(values[values["table"] == table]["encoder"])
        assert footprints == {f"footprint_{encoder}" for encoder in encoders}


def test_every_config_that_fills_a_cell_is_planned():
    named = {config for run in ALL.values() for config in (run.config, *run.also)}
    leaves = {
        str(path.relative_to(ROOT)): path.read_text()
        for path in (ROOT / "configs").rglob("*.py")
        if path.parent.name != "_base_"
    }
    filling = {path for path, text in leaves.items() if "no row of the paper" not in text}
    assert len(filling) > 60
    assert filling - named == set()
    assert {name for name in named if name} - {"configs/_base_/linear.py"} <= filling


@pytest.mark.parametrize("name", [n for n, run in TRAININGS.items() if run.kind == "pretrain"])
def test_a_pretraining_s_folder_is_the_one_that_its_command_takes_by_itself(name):
    """README's two neighbouring lines, 800 and 100 epochs, are two folders; so are the plan's."""
    run = TRAININGS[name]
    options_of = [f"epochs={run.epochs}"] if any("epochs=" in a for a in run.arguments) else []
    command = [str(ROOT / run.config), *(["--cfg-options", *options_of] if options_of else [])]
    args = argument_parser("").parse_args(command)
    assert load_config(args, NAMES).work_dir == args.work_dir
    if name.startswith("paper"):
        assert args.work_dir == f"work_dirs/{run.name}"


@pytest.mark.parametrize(
    ("options", "folder"),
    [
        ([], "work_dirs/loco_r50"),
        (["epochs=800"], "work_dirs/loco_r50"),
        (["epochs=100"], "work_dirs/loco_r50_100ep"),
        (["seed=1", "epochs=200"], "work_dirs/loco_r50_200ep"),
    ],
)
def test_another_number_of_epochs_is_another_folder(options, folder):
    config = str(ROOT / "configs/pretrain/loco_r50.py")
    changes = ["--cfg-options", *options] if options else []
    assert load_config(argument_parser("").parse_args([config, *changes]), NAMES).work_dir == folder
    given = argument_parser("").parse_args([config, "--work-dir", "mine", *changes])
    assert load_config(given, NAMES).work_dir == "mine"


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAININGS)
def test_a_run_is_what_its_config_and_options_say(name, read):
    run = TRAININGS[name]
    cfg = read(run.config)
    assert {argument.split("=")[0].split(".")[0] for argument in run.arguments} <= cfg.keys()
    cfg.merge_from_dict(options(run))
    if run.kind == "pretrain":
        assert (cfg.method, cfg.model.encoder, cfg.epochs) == (run.method, run.encoder, run.epochs)
    else:
        encoder = cfg.encoder if run.kind == "linear" else cfg.model.backbone.encoder
        assert cfg.method in (run.method, None) and encoder in (run.encoder, None)
        weights = [text for text in run.arguments if text.startswith("backbone_file=")]
        given = {f"backbone_file={need.result or need.backbone}" for need in run.needs}
        assert len(weights) == (run.method != "random") and set(weights) <= given
    assert cfg.get("split") == run.split
    if run.split is not None:  # the split that it trains on is drawn first
        file = cfg.train_dataloader.dataset.ann_file.format(split=run.split)
        drawn = [need for need in run.needs if need.kind == "split"]
        assert [need.result for need in drawn] == [f"{{data}}/coco/{file[:-5]}.ids.json"]
        size = drawn[0].arguments[drawn[0].arguments.index("--size") + 1]
        assert int(size) == cfg.split_size


@pytest.mark.parametrize("name", [name for name, run in TRAININGS.items() if run.also])
def test_configs_of_one_run_are_equal(name, read):
    run = TRAININGS[name]
    cfg = read(run.config)
    cfg.merge_from_dict(options(run))
    for other in run.also:
        assert config_text(read(other)) == config_text(cfg), other


@pytest.mark.parametrize("scale", [PAPER, DEMO])
def test_needs_come_first_and_names_are_of_one_run(scale):
    everything = [run for runs in scale.values() for run in in_order(runs)]
    assert len({run.name for run in everything}) == len(set(everything))
    for runs in scale.values():
        ordered = [run.name for run in in_order(runs)]
        assert len(ordered) == len(set(ordered))
        for run in in_order(runs):
            places = [ordered.index(need.name) for need in run.needs]
            assert all(place < ordered.index(run.name) for place in places)


def test_costs_are_what_was_measured_on_a_gpu():
    loco = next(run for run in in_order(PAPER["table1"]) if run.name == "loco_r50")
    report = {
        "encoder": "resnet50", "image_size": 224, "precision": "float32",
        "measured_batch_size": 256, "methods": {"loco": {"step_seconds": 0.5}},
        "machine": {"gpu": "a GPU"},
    }  # fmt: skip
    hours = gpu_hours(loco, [report])
    # 128 photographs in half a second: 256 a second
    assert hours == pytest.approx(800 * IMAGENET / 256 / 3600)
    assert gpu_hours(loco, [report | {"precision": "bfloat16"}]) is None
    assert gpu_hours(loco, [report | {"encoder": "presnet50"}]) is None
    assert gpu_hours(loco, []) is None
    ablation = next(run for run in in_order(PAPER["table4"]) if run.name == "table4_gim")
    assert gpu_hours(ablation, [report]) is None, "other decoders, another cost"

    frozen = next(run for run in PAPER["table2"] if run.name == "mask_rcnn_loco_r50_frozen")
    detectors = {
        "batch_size": 2, "scale": [1333, 800], "machine": {"device": "cuda"},
        "detectors": {"ours": {"iteration_seconds": 0.2}},
    }  # fmt: skip
    hours = gpu_hours(frozen, [report, detectors])
    assert hours == pytest.approx(COCO_1X / 2 * 0.2 / 3600)  # 39.4
    cityscapes = next(run for run in PAPER["table2"] if "cityscapes" in run.config)
    assert gpu_hours(cityscapes, [detectors]) is None
