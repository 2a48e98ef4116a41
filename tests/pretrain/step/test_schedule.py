"""The learning rate of pretraining is SimCLR's at every iteration of a real run."""

import math

import pytest
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from pretrain.step.schedule import schedule
from tests.helpers import toy_training as toy

PEAK = 0.25


def simclr(step: int, warmup_steps: int, total_steps: int) -> float:
    """google-research/simclr, model.py: a rising line, then TensorFlow's cosine_decay."""
    if step < warmup_steps:
        return step / warmup_steps * PEAK
    decayed = (step - warmup_steps) / (total_steps - warmup_steps)
    return PEAK * 0.5 * (1.0 + math.cos(math.pi * decayed))


@HOOKS.register_module()
class Rates(Hook):
    """The learning rate that every iteration is taken with."""

    def __init__(self):
        self.seen = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.seen.append(runner.optim_wrapper.get_lr()["lr"][0])


def rates(work_dir, epochs, warmup_epochs, batch, *hooks, **values):
    """Of a real run; ``batch`` divides the toy's 10 samples."""
    cfg = toy.config(
        work_dir,
        param_scheduler=schedule(epochs, warmup_epochs),
        custom_hooks=[{"type": "Diary"}, {"type": "Rates"}, *hooks],
        **{"train_cfg.max_epochs": epochs, "train_dataloader.batch_size": batch},
        **{"optim_wrapper.optimizer.lr": PEAK, **values},
    )
    runner, _ = toy.train(cfg)
    return next(hook.seen for hook in runner.hooks if isinstance(hook, Rates))


def test_the_worked_example(tmp_path):
    """Four iterations, one of them warm-up: half a cosine over three."""
    found = rates(tmp_path, epochs=4, warmup_epochs=1, batch=10)
    assert found == pytest.approx([0, 0.25, 0.1875, 0.0625])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("epochs", "warmup_epochs", "batch"),
    [(1, 0, 10), (3, 0, 10), (2, 1, 10), (5, 4, 10), (5, 2, 5), (4, 1, 2), (3, 2, 2), (3, 0, 2)],
)
def test_every_iteration_has_the_references_rate(epochs, warmup_epochs, batch, tmp_path):
    length = toy.SAMPLES // batch
    warmup, total = warmup_epochs * length, epochs * length
    expected = [simclr(step, warmup, total) for step in range(total)]
    assert max(expected) == PEAK == expected[warmup]  # the peak is where the warm-up ends
    assert rates(tmp_path, epochs, warmup_epochs, batch) == pytest.approx(expected, abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("after", [3, 5, 12])  # within, at the end of and after the warm-up
def test_a_resumed_run_goes_on_with_the_same_rate(after, tmp_path):
    whole = rates(tmp_path / "whole", 4, 1, batch=2)
    every = {"default_hooks.checkpoint.interval": after}
    death = {"type": "Death", "after": after}
    cut = rates(tmp_path, 4, 1, 2, {"type": "PlainCheckpoint"}, death, **every)
    checkpoint = str(tmp_path / f"iter_{after}.pth")
    resumed = {"resume": True, "load_from": checkpoint}
    rest = rates(tmp_path, 4, 1, 2, {"type": "PlainCheckpoint"}, **resumed, **every)
    assert (len(cut), len(rest)) == (after, 20 - after) and cut + rest == whole


@pytest.mark.parametrize(("epochs", "warmup"), [(5, 5), (5, 6), (5, -1), (1, 1)])
def test_a_warmup_that_does_not_fit_is_refused(epochs, warmup):
    with pytest.raises(
        ValueError, match=f"a warm-up of {warmup} epochs does not fit into {epochs}"
    ):
        schedule(epochs, warmup)


def test_the_papers_lengths():
    cfg = Config.fromfile("configs/pretrain/loco_r50.py")
    (entry,) = schedule(cfg.epochs, cfg.warmup_epochs)
    assert (entry["warmup"], entry["end"]) == (10, 800)  # section 5.1
