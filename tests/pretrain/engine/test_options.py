"""``--cfg-options`` as they are written: what a text is, what a list is, what is refused."""

import pytest
from mmengine.config import Config

from pretrain import train as pretraining
from pretrain.engine.launch import argument_parser, load_config
from pretrain.engine.options import Options, merge, parse
from pretrain.readout import linear_probe
from pretrain.train import NAMES

LOCO = "configs/demo/pretrain_loco.py"


def read(*options, config=LOCO, names=pretraining.NAMES):
    return load_config(argument_parser("").parse_args([config, "--cfg-options", *options]), names)


@pytest.mark.parametrize(
    "text",
    ["my data", " a", "a,b", "[a]", "(1,2)", "7", "1e3", "true", "it's", "'q'", "a=b", "{a}"],
)
def test_a_text_is_taken_as_it_stands(text):
    """Documented texts, places where the config has a text, and backbone_file, which is None."""
    cfg = read(f"data_root={text}", f"model.type={text}", config="configs/linear/random_r50.py",
               names=linear_probe.NAMES)  # fmt: skip
    assert (cfg.data_root, cfg.model.type) == (text, text)
    cfg = read(f"backbone_file={text}", config="configs/linear/random_r50.py",
               names=linear_probe.NAMES)  # fmt: skip
    assert cfg.backbone_file == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3), ("-3", -3), ("1e-3", 0.001), ("True", True), ("false", False), ("None", None),
        ("res2", "res2"), ("my word", "my word"), ("", ""), ("'7'", "7"),
        ("[res2,res3]", ["res2", "res3"]), ("res2,res3", ["res2", "res3"]), ("[]", []), ("()", ()),
        ("(1,2)", (1, 2)), ("(1,)", (1,)), ("[1]", [1]), ("[1, 2.5, None]", [1, 2.5, None]),
        ("[(1,2),(3,4)]", [(1, 2), (3, 4)]), ("(1,2),(3,4)", [(1, 2), (3, 4)]),
        ("[traffic light, car]", ["traffic light", "car"]), ("['a, b',\"c\"]", ["a, b", "c"]),
        ("[men's, b]", ["men's", "b"]), ("[[0,1],[1,2]]", [[0, 1], [1, 2]]),
    ],
)  # fmt: skip
def test_other_values(text, value):
    assert parse(text) == value and type(parse(text)) is type(value)


def test_unquoted_names_of_stages_and_numbers_reach_the_config():
    cfg = read("model.recompute=[res2,res3]", "model.micro_batch_size=4", "sync_bn=None",
               "custom_hooks.0.interval=1")  # fmt: skip
    assert cfg.model.recompute == ["res2", "res3"] and cfg.model.micro_batch_size == 4
    assert cfg.sync_bn is None and cfg.custom_hooks[0].interval == 1


def test_every_faulty_option_is_named_at_once():
    with pytest.raises(ValueError) as error:
        read("epocs=3", "model.recompute=[res2", "train_dataloader=3", "test_cfg.type=A")
    words = ("did you mean epochs?", "brackets or quotes", "one of its names", "set val_cfg")
    assert [word in str(error.value) for word in words] == [True] * 4
    assert len(str(error.value).splitlines()) == 4


def test_a_mapping_is_not_stored_as_a_text():
    cfg = Config({"visualizer": {"vis_backends": [{"type": "A"}]}})
    for text in ("[dict(type='B')]", "{'type': 'B'}", "[{type: B}]"):
        with pytest.raises(ValueError, match=r"would get the mapping.*a config over this one"):
            merge(cfg, {"visualizer.vis_backends": text}, "c.py", {})
    assert cfg.visualizer.vis_backends == [{"type": "A"}]


@pytest.mark.parametrize("option", ["epochs", "=3", "model.=1", ".model=1", "model..type=1"])
def test_an_option_without_name_or_sign_is_a_mistake_of_usage(option, capsys):
    with pytest.raises(SystemExit) as stop:
        argument_parser("").parse_args([LOCO, "--cfg-options", option])
    assert stop.value.code == 2 and "expected NAME=VALUE" in capsys.readouterr().err


def test_the_evaluation_reads_the_same_options(monkeypatch, capsys, tmp_path):
    from transfer import evaluate

    checkpoint = str(tmp_path / "epoch_1.pth")
    config = "configs/demo/mask_rcnn_random.py"
    root = str(tmp_path / "my data, all")
    seen = []
    monkeypatch.setattr(evaluate, "prepare", lambda cfg: seen.append(cfg.data_root) or exit_())

    def exit_():
        raise ValueError("seen")

    with pytest.raises(SystemExit, match="error: seen"):
        evaluate.main([config, checkpoint, "--cfg-options", f"data_root={root}"])
    assert seen == [root]
    with pytest.raises(SystemExit) as stop:
        evaluate.main([config, checkpoint, "--cfg-options", "data_root"])
    assert stop.value.code == 2 and "expected NAME=VALUE" in capsys.readouterr().err
    with pytest.raises(
        SystemExit, match=r"error: --cfg-options 'data_rot'.*did you mean data_root"
    ):
        evaluate.main([config, checkpoint, "--cfg-options", "data_rot=x"])


def test_the_same_option_given_twice_is_the_last():
    arguments = [LOCO, "--cfg-options", "epochs=3", "--cfg-options", "seed=1", "epochs=4"]
    found = argument_parser("").parse_args(arguments).cfg_options
    assert found == {"epochs": "4", "seed": "1"}


@pytest.mark.parametrize("value", ["__import__('os').mkdir({made!r})", "exec('1')", "9**9**9"])
def test_config_options_are_values_not_code(tmp_path, value):
    from argparse import ArgumentParser

    from mmengine.config import Config

    text = value.format(made=str(tmp_path / "made"))
    parser = ArgumentParser()
    parser.add_argument("--cfg-options", nargs="+", action=Options)
    found = parser.parse_args(["--cfg-options", f"name={text}"]).cfg_options
    cfg = Config({"name": "a", "epochs": 1})
    merge(cfg, found, "c.py", {})
    assert cfg.name == text and not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epocs": "3"}, "c.py has no 'epocs' there; did you mean epochs?"),
        ({"modle.type": "3"}, "did you mean model?"),
        ({"model.unit.x": "1"}, "has no 'unit' there; did you mean units?"),
        ({"epochs": "many"}, "has 1 there, found 'many', expected a number"),
        ({"epochs": "1e999"}, "expected a finite number"),
        ({"model": "1"}, "expected one of its names"),
        ({"epochs.x": "1"}, "has nothing inside 'epochs', which is 1"),
        ({"model.units.5": "a"}, "has no '5' there"),
        ({"model.__class__": "1"}, "has no '__class__' there"),
        ({"flag": "2"}, "expected True or False"),
        ({"model.units": "a"}, "expected a list, such as [a,b]"),
        ({"model.new": "[(1,2]"}, "brackets or quotes do not match"),
        ({"model.new": "[" * 50 + "]" * 50}, "brackets more than 20 deep"),
        ({"model.new": "[dict(type='A')]"}, "would get the mapping"),
        ({"test_cfg.type": "A"}, "set val_cfg"),
    ],
)
def test_a_wrong_option_is_refused_with_what_is_near(options, message):
    from mmengine.config import Config

    cfg = Config({"model": {"units": ["a"]}, "epochs": 1, "flag": True, "root": "data"})
    before = cfg.to_dict()
    with pytest.raises(ValueError) as error:
        merge(cfg, options, "c.py", {})
    assert message in str(error.value) and cfg.to_dict() == before


def test_options_that_fit_are_set():
    from mmengine.config import Config

    cfg = Config({"model": {"steps": [{}, {"a": 1}]}, "epochs": 1, "file": "x", "none": None})
    values = {"epochs": "0.5", "model.steps.1.a": "2", "model.new": "[1]", "file": "None"}
    merge(cfg, values, "c.py", {})
    merge(cfg, {"none": "3"}, "c.py", {})
    steps = {"steps": [{}, {"a": 2}], "new": [1]}
    expected = {"model": steps, "epochs": 0.5, "file": None, "none": 3}
    assert cfg.to_dict() == expected


def test_a_wrong_option_is_refused_by_the_trainers(tmp_path):
    (tmp_path / "c.py").write_text("epochs = 1\nmodel = dict(type='A')\n")
    for option, message in (
        ("epocs=2", "did you mean epochs"),
        ("model=3", "one of its names"),
        ("epochs=[1,2", "whose brackets or quotes do not match"),
    ):
        args = argument_parser("").parse_args([str(tmp_path / "c.py"), "--cfg-options", option])
        with pytest.raises(ValueError, match=message):
            load_config(args, NAMES)
    with pytest.raises(SystemExit):
        argument_parser("").parse_args([str(tmp_path / "c.py"), "--cfg-options", "epochs"])
