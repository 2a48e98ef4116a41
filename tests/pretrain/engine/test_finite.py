"""What is no number any more ends a run before it is saved."""

import json
import math
import re
from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.model import MMDistributedDataParallel
from mmengine.runner import Runner

import pretrain.step.precision  # noqa: F401  (registers MixedPrecision)
from pretrain.engine.finite import FiniteNumbers, NotFinite, bad_tensors
from pretrain.engine.launch import argument_parser, main
from pretrain.engine.sampler import EpochKeySampler
from pretrain.images.image_lists import ImageList
from pretrain.local_data_parallel import LocalDistributed
from pretrain.step.data_parallel import AnyDeviceDataParallel
from pretrain.train import NAMES, prepare
from tests.helpers import toy_training as toy
from tests.helpers.tiny_model import TWO_VIEWS, tiny_model
from tests.helpers.two_processes import in_two_processes

pytestmark = pytest.mark.slow

# ---- one process ---------------------------------------------------------------------------------


@toy.MODELS.register_module()
class Explodes(toy.NoisyLine):
    """A line that goes wrong in training step ``at``, when a checkpoint is due."""

    def __init__(self, at=9, way="nan"):
        super().__init__()
        self.at, self.way, self.seen = at, way, []

    def forward(self, x, mode="tensor"):
        out = super().forward(x, mode)
        if mode == "loss":
            self.seen.append(x[:, 0].tolist())
            if len(self.seen) == self.at:
                weight = self.line.weight.sum()
                out["loss"] = {
                    "nan": lambda: out["loss"] * math.nan,
                    "inf": lambda: out["loss"] + math.inf,
                    # d sqrt(y) / dy is infinite at 0
                    "gradient": lambda: out["loss"] + ((weight - weight.detach()) ** 2).sqrt(),
                    # the loss's scale takes the gradient beyond float32
                    "overflow": lambda: out["loss"] + 1e35 * (weight - weight.detach()),
                }[self.way]()
        return out


def explode(folder, way, **values):
    """Train the toy, saved every 3 iterations, until it goes wrong in its 9th."""
    model = {"type": "Explodes", "way": way}
    values = {"default_hooks.checkpoint.interval": 3, "model": model, **values}
    cfg = toy.config(folder, custom_hooks=[{"type": "PlainCheckpoint"}], **values)
    cfg.experiment_name = f"explodes{next(toy.COUNT)}"
    runner = Runner.from_cfg(cfg)
    runner.register_hook(FiniteNumbers())
    try:
        runner.train()
    except NotFinite as error:
        return runner, str(error)
    return runner, ""


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("nan", "epoch 2: loss is nan. "),
        ("inf", "epoch 2: loss is inf. "),
        ("gradient", r"epoch 2: the losses are finite, but .* not: line\.weight. "),
    ],
)
def test_it_stops_at_that_iteration_and_saves_nothing_of_it(way, words, tmp_path):
    runner, error = explode(tmp_path, way)
    expected = f"iteration 9, {words}The last good checkpoint is {tmp_path}/iter_6.pth: "
    assert re.match(expected, error), error
    assert f"{tmp_path}/bad_batch.json" in error
    assert sorted(path.name for path in tmp_path.glob("*.pth")) == ["iter_3.pth", "iter_6.pth"]
    saved = torch.load(tmp_path / "iter_6.pth", weights_only=True)
    assert bad_tensors(saved["state_dict"].items()) == []
    batch = json.loads((tmp_path / "bad_batch.json").read_text())
    assert len(runner.model.seen) == 9  # no step was made after it
    assert (
        [key % toy.SAMPLES for key in batch["keys"]]
        == [int(x) for x in runner.model.seen[-1]]
        != []
    )
    assert {key // toy.SAMPLES for key in batch["keys"]} == {1}
    told = {name: batch[name] for name in ("iteration", "epoch", "batch", "rank", "seed")}
    assert told == {"iteration": 9, "epoch": 2, "batch": 3, "rank": 0, "seed": 3}
    assert batch["learning_rate"] == runner.optim_wrapper.get_lr()["lr"]
    assert batch["losses"]["loss"] == way if way != "gradient" else batch["losses"]["loss"] >= 0


def test_a_step_that_float16_leaves_out_is_no_fault(tmp_path):
    wrapper = {
        "type": "MixedPrecision",
        "dtype": "float16",
        "optimizer": {"type": "SGD", "lr": 1e-3},
    }
    scales = []
    for at in (99, 7):
        model = {"type": "Explodes", "way": "overflow", "at": at}
        runner, error = explode(tmp_path / f"{at}", "", optim_wrapper=wrapper, model=model)
        assert error == "" and runner.iter == toy.EPOCHS * toy.EPOCH_LENGTH
        scales.append(runner.optim_wrapper.scaler.get_scale())
    assert scales[1] == scales[0] / 2  # one step more was left out


@pytest.mark.parametrize("part", ["statistics", "momentum"])
def test_nothing_infinite_is_saved(part, tmp_path):
    """What no loss shows yet."""
    runner = SimpleNamespace(work_dir=str(tmp_path), iter=4)
    checkpoint = {
        "state_dict": {
            "norm.running_var": torch.ones(2),
            "norm.num_batches_tracked": torch.ones(()),
        },
        "optimizer": {"state": {0: {"momentum_buffer": torch.ones(3)}, 1: {"step": 3}}},
    }
    FiniteNumbers().before_save_checkpoint(runner, checkpoint)
    if part == "statistics":
        checkpoint["state_dict"]["norm.running_var"][1] = math.inf
        name = r"norm\.running_var"
    else:
        checkpoint["optimizer"]["state"][0]["momentum_buffer"][2] = math.nan
        name = "optimizer 0 momentum_buffer"
    with pytest.raises(NotFinite, match=f"iteration 5: nothing saved, since .*: {name}. No checkp"):
        FiniteNumbers().before_save_checkpoint(runner, checkpoint)


def test_the_command_names_unit_checkpoint_and_images(coco, tmp_path):
    """A learning rate that no network survives: the second step's losses are NaN."""
    args = argument_parser("").parse_args([
        "configs/demo/pretrain_loco.py", "--work-dir", str(tmp_path),
        "--cfg-options", "epochs=2", "warmup_epochs=0", "global_batch_size=8", "base_lr=1e38",
        f"data_root={coco}/train2017", "train_dataloader.dataset.augmentation.size=32",
        "train_dataloader.num_workers=0", "default_hooks.checkpoint.interval=1",
        "default_hooks.checkpoint.by_epoch=False",
    ])  # fmt: skip
    with pytest.raises(SystemExit) as stop:
        main("", prepare, NAMES, args)
    error = stop.value.code
    batch = json.loads((tmp_path / "bad_batch.json").read_text())
    assert error.startswith(f"error: iteration {batch['iteration']}, epoch 1: ")
    listed = ImageList.read(coco / "train2017")
    sampler = EpochKeySampler(listed.names, seed=0)
    first = 8 * batch["batch"]
    assert batch["keys"] == list(sampler)[first : first + 8]
    assert batch["images"] == [str(listed.path(key)) for key in batch["keys"]]
    assert not (tmp_path / "record.json").exists()


# ---- two processes -------------------------------------------------------------------------------


def hook_on(model, folder) -> tuple[FiniteNumbers, SimpleNamespace]:
    """The hook in as much of a Runner as it looks at, after a step that gave these losses."""
    batches = SimpleNamespace(start=0, __iter__=None)
    loader = SimpleNamespace(batch_sampler=batches, dataset=[])
    runner = SimpleNamespace(
        model=model, work_dir=str(folder), iter=4, epoch=0, seed=0, train_dataloader=loader,
        optim_wrapper=SimpleNamespace(get_lr=lambda: {"lr": [0.1]}),
        message_hub=MessageHub.get_instance(f"numbers{next(toy.COUNT)}"),
    )  # fmt: skip
    hook = FiniteNumbers()
    hook.before_train(runner)
    return hook, runner


def one_step(wrapper: str, losses: dict[str, float], folder) -> str:
    """What the hook says after a step of this process's ``losses``."""
    given = {name: torch.tensor(value) for name, value in losses.items()}
    with pytest.MonkeyPatch.context() as patch:  # a fork must not compute gradients
        if wrapper == "local":
            model = tiny_model(data_preprocessor=TWO_VIEWS).eval()
            patch.setattr(model, "local_gradients", lambda *_: given)
            patch.setattr(model, "update", lambda _: None)
            model = LocalDistributed(model)
        else:
            patch.setattr(MMDistributedDataParallel, "train_step", lambda *_: given)
            model = AnyDeviceDataParallel(toy.NoisyLine(), device_ids=[0])
        averages = model.train_step({}, None)
    hook, runner = hook_on(model, folder)
    for name, value in averages.items():
        runner.message_hub.update_scalar(f"train/{name}", value)
    batch = {"data_samples": [SimpleNamespace(img_path=f"{model.own_losses}")]}
    try:
        hook.after_train_iter(runner, 4, batch, averages)
    except NotFinite as error:
        return str(error)
    return " ".join(f"{name} {float(value):g}" for name, value in averages.items())


@pytest.mark.parametrize("wrapper", ["local", "any device"])
def test_all_processes_stop_and_name_the_one_that_saw_it(wrapper, tmp_path):
    names = {"local": ("loss_res2+res3", "loss_res4+res5"), "any device": ("loss_cls", "acc")}
    first, second = names[wrapper]

    def work(rank):
        print(one_step(wrapper, {first: 1.0 + rank, second: 4.0}, tmp_path))
        print(one_step(wrapper, {first: 1.0, second: math.nan if rank else 4.0}, tmp_path))

    for log in in_two_processes(work, tmp_path):
        fine, error = log.splitlines()
        assert fine == f"{first} 1.5 {second} 4"  # the average
        title = {"local": "unit res4+res5", "any device": "acc"}[wrapper]
        assert re.match(
            rf"iteration 5, epoch 1: rank 1 on \S+: {re.escape(title)} is nan\. No", error
        )
    found = [
        json.loads((tmp_path / name).read_text())
        for name in ("bad_batch.json", "bad_batch_rank1.json")
    ]
    assert [batch["rank"] for batch in found] == [0, 1]
    assert [batch["losses"][second] for batch in found] == [4.0, "nan"]
    assert found[0]["images"] != found[1]["images"]
