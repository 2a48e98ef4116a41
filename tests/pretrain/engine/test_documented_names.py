"""The documented names: kinds and ranges, what they alone may set, and what nothing reads."""

import inspect
import re
from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, VISUALIZERS
from mmengine.visualization import LocalVisBackend
from torch.utils.data import DataLoader

from pretrain import train as pretraining
from pretrain.engine.documented_names import check, fit_to_workers, forget_what_is_set
from pretrain.engine.launch import Start, argument_parser, load_config, main, train
from pretrain.engine.processes import join_processes
from pretrain.engine.same_config import config_text
from pretrain.readout import linear_probe
from results.record.protocol import deviations
from transfer import train as transfer

pytestmark = pytest.mark.slow

register_all_modules()
CONFIGS = {
    "pretrain": ("configs/demo/pretrain_loco.py", pretraining),
    "linear": ("configs/linear/random_r50.py", linear_probe),
    "transfer": ("configs/demo/mask_rcnn_random.py", transfer),
    "few": ("configs/mask_rcnn_random_r50_coco1k.py", transfer),
    "cityscapes": ("configs/mask_rcnn_random_r50_frozen_cityscapes.py", transfer),
}


read = cache(lambda path: Config.fromfile(path, import_custom_modules=False))


def config(kind) -> Config:
    """A copy of one of CONFIGS, which takes seconds to read."""
    return deepcopy(read(CONFIGS[kind][0]))


def pretraining_on(coco, **values) -> Config:
    """The demo's pretraining, in batches of 8 of 16 images."""
    cfg = config("pretrain")
    cfg.merge_from_dict({"data_root": f"{coco}/train2017", "global_batch_size": 8, **values})
    return cfg


def over(tmp_path, kind, **values) -> Config:
    """A user's config over one of CONFIGS, that sets these names at its top."""
    lines = [f"{name} = {value!r}\n" for name, value in values.items()]
    base = f"_base_ = [{str(Path(CONFIGS[kind][0]).resolve())!r}]\n"
    (tmp_path / "mine.py").write_text(base + "".join(lines))
    return Config.fromfile(tmp_path / "mine.py", import_custom_modules=False)


def faults(kind, cfg=None, **values) -> str:
    """What is wrong with a config in which these dotted names are set."""
    cfg = cfg or config(kind)
    cfg.merge_from_dict(values)
    try:
        check(cfg, CONFIGS[kind][1].NAMES)
    except ValueError as error:
        return str(error)
    return ""


# ---- kinds and ranges ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CONFIGS)
def test_what_is_there_is_right(kind):
    assert faults(kind) == ""


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("pretrain", "epochs", 2.5), ("pretrain", "epochs", 0), ("pretrain", "epochs", "3"),
        ("pretrain", "epochs", True), ("pretrain", "epochs", None), ("pretrain", "seed", None),
        ("pretrain", "seed", -1), ("pretrain", "seed", 2**32), ("pretrain", "seed", 1.0),
        ("pretrain", "global_batch_size", 8.0), ("pretrain", "warmup_epochs", -1),
        ("pretrain", "base_lr", -1), ("pretrain", "base_lr", 0), ("pretrain", "base_lr", True),
        ("pretrain", "base_lr", float("nan")), ("pretrain", "data_root", None),
        ("pretrain", "data_root", " "), ("pretrain", "method", None), ("pretrain", "precision", 16),
        ("pretrain", "train_dataloader.num_workers", -1),
        ("pretrain", "train_dataloader.num_workers", 1.5),
        ("pretrain", "train_dataloader.prefetch_factor", 0),
        ("pretrain", "train_dataloader.dataset.augmentation.size", 1),
        ("pretrain", "train_dataloader.dataset.max_unreadable_share", 2),
        ("pretrain", "default_hooks.checkpoint.interval", 0.5), ("pretrain", "protocol.name", ""),
        ("pretrain", "model.loss.temperature", 0), ("pretrain", "model.micro_batch_size", 0),
        ("linear", "milestones", 60), ("linear", "milestones", [1.5]), ("linear", "k", 0),
        ("linear", "temperature", -1), ("linear", "stages", 2), ("linear", "stages", [2]),
        ("linear", "cache_features", 1), ("linear", "image_size", 0), ("linear", "resize", "a"),
        ("linear", "val_dataloader.num_workers", -1),
        ("transfer", "max_epochs", 0), ("transfer", "global_batch_size", "8"),
        ("transfer", "backbone_file", 7), ("transfer", "base_batch_size", 0),
        ("transfer", "model.roi_head.mask_head.num_classes", 0),
        ("few", "split", -1), ("few", "split", "third"), ("few", "split_size", 0.5),
        ("few", "max_iters", 1e3),
    ],
)  # fmt: skip
def test_a_value_of_another_kind_or_out_of_range(kind, name, value):
    text = faults(kind, **{name: value})
    assert f"{name} is {value!r}; expected " in text and f"--cfg-options {name}=" in text
    assert len(text.splitlines()) == 1


def test_all_faults_are_told_at_once(tmp_path):
    values = {"epochs": 2.5, "seed": None, "optim_wrapper.optimizer.lr": 1, "load_from": "x",
              "train_dataloader.num_workers": -1}  # fmt: skip
    text = faults("pretrain", over(tmp_path, "pretrain", warmup_epoch=3), **values)
    assert text.startswith("6 things in the config are wrong:\n") and len(text.splitlines()) == 7


def test_batch_processes_warm_up_and_data_are_told_at_once(coco):
    cfg = pretraining_on(coco, global_batch_size=33, epochs=2)
    with pytest.raises(ValueError) as error:
        pretraining.prepare(cfg, 2)
    for words in ("batch of 33 from 16 images", "2 processes cannot share", "warm-up of 2 epochs"):
        assert words in str(error.value)


def test_a_detector_s_faults_are_told_at_once(tmp_path):
    cfg = config("transfer")
    cfg.merge_from_dict({"data_root": str(tmp_path / "no"), "method": "loco", "max_iters": 3})
    with pytest.raises(ValueError) as error:
        transfer.prepare(cfg, 3)
    for words in (
        "cocodataset.org",
        "backbone_file is None",
        "3 processes cannot share",
        "not both",
    ):
        assert words in str(error.value)


def test_a_missing_name_is_told():
    cfg = deepcopy(read("configs/_base_/pretrain.py"))
    with pytest.raises(ValueError, match=r"^method is not set; expected a text"):
        check(cfg, pretraining.NAMES)
    cfg.protocol = None
    with pytest.raises(ValueError, match=r"protocol\.states\.images is not set"):
        check(cfg, pretraining.NAMES)


def test_every_name_of_the_pages_is_in_a_table():
    """And every name that a trainer's base config lists under ``Set by name``."""
    readme = Path("docs/pages/reproduce.md").read_text()
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| (?:all|transfer|pretrain|COCO)", readme, re.M)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert {"data_root", "epochs", "split"} <= named
    tables = {*pretraining.NAMES, *linear_probe.NAMES, *transfer.NAMES}
    assert named <= tables
    for path in Path("configs/_base_").glob("*.py"):
        said = path.read_text().split('"""')[1].partition("Set by name:")[2]
        assert set(re.findall(r"(?<![\w.])([a-z_]+)=", said)) <= tables, path


# ---- places that a name sets ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "place", "value", "name"),
    [
        ("pretrain", "optim_wrapper.optimizer.lr", 0.1, "base_lr"),
        ("pretrain", "train_dataloader.batch_size", 8, "global_batch_size"),
        ("pretrain", "train_cfg.max_epochs", 3, "epochs"),
        ("pretrain", "param_scheduler", [{"type": "ConstantLR"}], "epochs"),
        ("pretrain", "randomness.seed", 3, "seed"),
        ("pretrain", "train_dataloader.dataset.root", "x", "data_root"),
        ("pretrain", "train_dataloader.dataset.seed", 1, "seed"),
        ("pretrain", "optim_wrapper.dtype", "bfloat16", "precision"),
        ("pretrain", "auto_scale_lr", {"enable": True, "base_batch_size": 16}, "base_lr"),
        ("linear", "train_cfg.max_epochs", 3, "epochs"),
        ("linear", "param_scheduler", [{"type": "ConstantLR"}], "milestones"),
        ("linear", "model.classes", 3, "data_root"),
        ("linear", "val_dataloader.batch_size", 3, "global_batch_size"),
        ("linear", "model.data_preprocessor.backbone_file", "x", "backbone_file"),
        ("transfer", "model.backbone.backbone_file", "x", "backbone_file"),
        ("transfer", "optim_wrapper.optimizer.lr", 0.1, "base_lr"),
        ("transfer", "train_dataloader.batch_size", 8, "global_batch_size"),
        ("transfer", "val_dataloader.dataset.data_root", "x", "data_root"),
        ("transfer", "val_evaluator.ann_file", "x", "data_root"),
        ("transfer", "dataset", {"name": "mine"}, "data_root"),
        ("transfer", "train_cfg.max_epochs", 3, "max_epochs"),
        ("few", "train_cfg.max_iters", 3, "max_iters"),
        ("few", "auto_scale_lr", {"enable": True, "base_batch_size": 16}, "base_lr"),
        ("cityscapes", "train_dataloader.dataset.dataset.data_root", "x", "data_root"),
    ],
)  # fmt: skip
def test_what_a_name_sets_nobody_else_sets(kind, place, value, name):
    """The same for an option and for a config over its base: both end in this config."""
    *path, last = place.split(".")
    cfg = holder = config(kind)
    for part in path:
        holder.setdefault(part, {})
        holder = holder[part]
    holder[last] = value
    found = faults(kind, cfg)
    way = f"but {name} decides it: set --cfg-options {name}=... instead, and leave {place} out"
    assert found.startswith(f"{place} is ") and found.endswith(way)
    assert len(found.splitlines()) == 1


def test_faults_end_the_start_in_one_message(coco, tmp_path):
    (tmp_path / "c.py").write_text(
        f"_base_ = [{str(Path(CONFIGS['pretrain'][0]).resolve())!r}]\nload_from = 'epoch_3.pth'\n"
    )
    options = [f"data_root={coco}/train2017", "global_batch_size=8", "optim_wrapper.optimizer.lr=1"]
    args = [str(tmp_path / "c.py"), "--work-dir", str(tmp_path / "w"), "--cfg-options", *options]
    with pytest.raises(SystemExit, match=r"^error: 2 things in the config are wrong") as stop:
        main("", pretraining.prepare, pretraining.NAMES, argument_parser("").parse_args(args))
    assert "base_lr decides it" in stop.value.code and not (tmp_path / "w").exists()
    assert "load_from is 'epoch_3.pth', weights that no record names" in stop.value.code


def test_a_run_s_own_config_is_read_again_with_other_values(coco, tmp_path):
    """In the config that a run leaves every place is set; its names still decide."""
    options = ["--cfg-options", f"data_root={coco}/train2017", "global_batch_size=8", "epochs=3"]
    args = argument_parser("").parse_args(["configs/demo/pretrain_loco.py", *options])
    cfg = load_config(args, pretraining.NAMES)
    pretraining.prepare(cfg, 1)
    cfg.resume, cfg.load_from = True, "epoch_2.pth"  # as after --resume
    cfg.dump(tmp_path / "pretrain_loco.py")
    again = [str(tmp_path / "pretrain_loco.py"), "--work-dir", "w", "--cfg-options"]
    cfg = load_config(argument_parser("").parse_args([*again, "epochs=5"]), pretraining.NAMES)
    pretraining.prepare(cfg, 1)
    assert cfg.train_cfg.max_epochs == 5 and cfg.load_from is None and not cfg.resume
    cfg = load_config(argument_parser("").parse_args([*again, "train_cfg.max_epochs=5"]),
                      pretraining.NAMES)  # fmt: skip
    with pytest.raises(ValueError, match="epochs decides it"):
        pretraining.prepare(cfg, 1)


def test_other_parts_of_randomness_stay(coco):
    cfg = pretraining_on(coco, seed=7)
    cfg.randomness = {"deterministic": True}
    pretraining.prepare(cfg, 1)
    assert cfg.randomness == {"deterministic": True, "seed": 7}


@pytest.mark.parametrize("name", ["work_dir", "resume"])
def test_what_the_command_line_decides_is_refused_in_a_config(name, tmp_path):
    (tmp_path / "c.py").write_text(f"{name} = 'elsewhere'\n")
    with pytest.raises(
        ValueError, match=f"sets {name} to 'elsewhere'.* add --{name.replace('_', '-')}"
    ):
        load_config(argument_parser("").parse_args([str(tmp_path / "c.py")]), {})


# ---- what nothing reads --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name", "value", "hint"),
    [
        ("transfer", "metainfo", {"classes": ("bolt",)}, "set train_dataloader.dataset.metainfo, "),
        ("transfer", "vis_backends", [{"type": "X"}], "set visualizer.vis_backends instead"),
        ("transfer", "train_pipeline", [{"type": "X"}], "set the place where its value"),
        ("transfer", "max_epoch", 3, "did you mean max_epochs?"),
        ("pretrain", "epoch", 100, "did you mean epochs?"),
        ("pretrain", "vis_backends", [{"type": "X"}], "set the place where its value"),
        ("pretrain", "lr_config", {"policy": "step"}, "set the place where its value"),
        ("pretrain", "batch_size", 7, "set the place where its value"),
        ("linear", "milestone", [3], "did you mean milestones?"),
    ],
)  # fmt: skip
def test_a_value_that_nothing_reads(kind, name, value, hint, tmp_path):
    if isinstance(config(kind).get(name), dict):
        value = {"_delete_": True, **value}
    found = faults(kind, over(tmp_path, kind, **{name: value}))
    assert found.startswith(f"{name} is set to ") and "but nothing reads it" in found
    assert hint in found


def test_an_option_for_a_variable_names_the_places_that_hold_its_value():
    places = {
        "metainfo.classes=(bolt,nut)": "train_dataloader.dataset.metainfo, val_dataloader",
        "vis_backends=[a]": "visualizer.vis_backends",
        "train_pipeline.2.scale=(64,64)": "train_dataloader.dataset.pipeline",
        "norm_cfg.type=BN": "model.neck.norm_cfg, ",
    }
    args = argument_parser("").parse_args([CONFIGS["transfer"][0], "--cfg-options", *places])
    with pytest.raises(ValueError) as error:
        load_config(args, transfer.NAMES)
    for line, place in zip(str(error.value).splitlines(), places.values(), strict=True):
        assert "as a variable, which nothing reads any more" in line and f"set {place}" in line


def test_a_variable_whose_value_stands_somewhere_is_fine(tmp_path):
    size = {"train_dataloader.dataset.augmentation.size": 96}
    assert faults("pretrain", over(tmp_path, "pretrain", width=96), **size) == ""
    steps = [{"type": "PackDetInputs"}]
    more = {"train_dataloader.dataset.pipeline": steps}  # train_pipeline of the base is left over
    assert faults("transfer", over(tmp_path, "transfer", my_pipeline=steps), **more) == ""


def test_a_detector_s_backends_are_honoured_where_they_are_read(tmp_path):
    backends = [{"type": "LocalVisBackend", "scalar_save_file": "mine.json"}]
    cfg = over(tmp_path, "transfer", visualizer={"vis_backends": backends})
    check(cfg, transfer.NAMES)
    built = VISUALIZERS.build({**cfg.visualizer, "save_dir": str(tmp_path), "name": "of this test"})
    (backend,) = built._vis_backends.values()
    assert isinstance(backend, LocalVisBackend) and "mine.json" in str(vars(backend))


# ---- foreign weights -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "place", "value"),
    [
        ("transfer", "load_from", "https://example.org/mask_rcnn.pth"),
        ("transfer", "load_from", "weights"),
        ("transfer", "model.init_cfg", {"type": "Pretrained", "checkpoint": "a"}),
        ("transfer", "model.backbone.init_cfg", [{"type": "Pretrained", "checkpoint": "a"}]),
        ("transfer", "model.neck.init_cfg", {"type": "PretrainedInit", "checkpoint": "a"}),
        ("transfer", "model.backbone.pretrained", "torchvision://resnet50"),
        ("transfer", "model.backbone.pretrained", True),
        ("transfer", "model.roi_head.pretrained", "open-mmlab://x"),
        ("transfer", "model.teacher_ckpt", "x"),
        ("transfer", "custom_hooks", [{"type": "MyLoader", "path": "other/epoch_1.pth"}]),
        ("transfer", "custom_hooks", [{"type": "MyLoader", "files": ["a", "b.safetensors"]}]),
        ("pretrain", "load_from", "epoch_1.pth"),
        ("pretrain", "model.init_cfg", {"type": "Pretrained", "checkpoint": "a"}),
        ("linear", "model.init_cfg", {"type": "Pretrained", "checkpoint": "a"}),
        ("linear", "load_from", "a"),
    ],
)
def test_weights_that_no_record_names_are_refused(kind, place, value):
    found = faults(kind, **{place: value})
    way = "random weights, and --resume" if kind == "pretrain" else "backbone_file=FILE"
    assert place in found and "weights that no record names" in found and way in found


def test_ordinary_initialisation_is_no_weights():
    ordinary = {"type": "Xavier", "layer": "Conv2d"}
    more = {"model.neck.init_cfg": ordinary, "model.roi_head.loss_weight": 2, "load_from": None}
    assert faults("transfer", **more, **{"model.backbone.pretrained": False}) == ""


# ---- workers and last batches --------------------------------------------------------------------


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_loader_without_workers_keeps_nothing_that_needs_them(kind):
    cfg = config(kind)
    asked = {"num_workers": 0, "persistent_workers": True, "prefetch_factor": 4, "timeout": 9}
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        if cfg.get(name):
            cfg[name].update({**asked, "multiprocessing_context": "spawn"})
    fit_to_workers(cfg)
    known = set(inspect.signature(DataLoader).parameters)
    for name in (n for n in cfg if n.endswith("_dataloader")):
        needs = {k: cfg[name][k] for k in cfg[name] if k in (*asked, "multiprocessing_context")}
        assert needs.keys() <= known and list(DataLoader([1, 2], **needs))  # torch takes them


def test_workers_are_no_part_of_what_a_run_is(coco):
    texts = []
    for workers in (0, 2):
        cfg = pretraining_on(coco)
        cfg.train_dataloader.update(num_workers=workers, prefetch_factor=4)
        pretraining.prepare(cfg, 1)
        texts.append(config_text(cfg))
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("batch", "processes", "rest"), [(8, 1, 0), (5, 1, 1), (6, 1, 4), (6, 2, 4), (16, 2, 0)]
)
def test_an_incomplete_last_batch_is_refused_in_pretraining(coco, batch, processes, rest):
    """16 images; worked by hand."""
    cfg = pretraining_on(coco, global_batch_size=batch)
    cfg.train_dataloader.drop_last = False
    if rest:
        with pytest.raises(ValueError, match=f"leave a last batch of {rest}, with fewer negatives"):
            pretraining.prepare(cfg, processes)
        cfg.train_dataloader.drop_last = True
        forget_what_is_set(cfg, pretraining.NAMES)
    pretraining.prepare(cfg, processes)


# ---- what a record needs -------------------------------------------------------------------------


def test_a_protocol_that_states_what_no_run_says_of_itself():
    with pytest.raises(ValueError, match=r"protocol\.states has epoch; it can state epochs, lr"):
        deviations({"epoch": 3, "lr": 1}, {"epochs": 3, "lr": 1})


@HOOKS.register_module()
class NoIteration(Hook):
    """Fails the test where a run comes as far as an iteration."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        raise AssertionError("an iteration was begun")


def test_a_run_that_could_not_be_recorded_does_not_begin(coco, tmp_path):
    args = ["--work-dir", str(tmp_path), "--cfg-options", f"data_root={coco}/train2017"]
    args += ["protocol.states.epoch=3", "global_batch_size=8", "train_dataloader.num_workers=0"]
    parsed = argument_parser("").parse_args([CONFIGS["pretrain"][0], *args])
    start = Start(parsed, pretraining.prepare, pretraining.NAMES)
    start.find_out()
    start.cfg.custom_hooks.append({"type": "NoIteration"})
    with pytest.raises(
        SystemExit, match=r"could not be recorded at its end \(protocol\.states has"
    ):
        train(start.cfg, join_processes("none"))
    assert not list(tmp_path.glob("*.pth"))
