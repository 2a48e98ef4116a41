"""A training of a second on mmengine's Runner in which everything that can go astray is random."""

import os
import signal

import numpy as np
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS
from mmengine.runner import Runner

import pretrain.engine.checkpoint  # noqa: F401

SAMPLES, BATCH, EPOCHS = 10, 2, 3
EPOCH_LENGTH = SAMPLES // BATCH


@DATASETS.register_module()
class NoisyNumbers(torch.utils.data.Dataset):
    """Sample i is i and a number from NumPy's global generator, as mmdet's transforms take them."""

    metainfo = {"name": "noise"}

    def __len__(self):
        return SAMPLES

    def __getitem__(self, index):
        return {"x": torch.tensor([float(index), np.random.rand()])}


@MODELS.register_module()
class NoisyLine(BaseModel):
    """A line through samples, to which every forward pass adds noise, as mmdet's samplers do."""

    def __init__(self):
        super().__init__()
        self.line = torch.nn.Linear(2, 1)
        self.norm = torch.nn.BatchNorm1d(2)

    def forward(self, x, mode="tensor"):
        if mode == "predict":
            return [torch.rand(1)]
        out = self.line(self.norm(x + torch.rand_like(x)))
        return {"loss": (out**2).mean()}


@METRICS.register_module()
class Weight(BaseMetric):
    """The line's first weight: a metric that says when it was taken."""

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return SCORES.pop(0) if SCORES else {"score": 0.5}


SCORES = []


@HOOKS.register_module()
class Diary(Hook):
    """Notes what was trained on and validated, and has something to say in a checkpoint."""

    priority = "VERY_LOW"  # as the hooks that write records

    def before_save_checkpoint(self, runner, checkpoint):
        checkpoint["meta"]["noted"] = self.batches[-1][0] + 1

    def __init__(self):
        self.batches, self.rates, self.validated = [], [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.batches.append((runner.iter, batch_idx, data_batch["x"].tolist()))
        self.rates.append(runner.optim_wrapper.get_lr()["lr"][0])

    def after_val_epoch(self, runner, metrics=None):
        self.validated.append(runner.iter)


@HOOKS.register_module()
class Death(Hook):
    """Ends the run after a checkpoint, with nothing put in order."""

    priority = "LOWEST"

    def __init__(self, after):
        self.after = after

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.after:
            raise KeyboardInterrupt


@HOOKS.register_module()
class Signal(Hook):
    """A scheduler that wants the machine back during an iteration."""

    def __init__(self, after):
        self.after = after

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == self.after:
            os.kill(os.getpid(), signal.SIGTERM)


@HOOKS.register_module()
class SignalInValidation(Hook):
    """A scheduler that wants the machine back while a validation is under way."""

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        os.kill(os.getpid(), signal.SIGTERM)


def config(work_dir, **values):
    cfg = Config(
        {
            "default_scope": "mmengine",
            "work_dir": str(work_dir),
            "model": {"type": "NoisyLine"},
            "train_dataloader": {
                "batch_size": BATCH,
                "num_workers": 0,
                "sampler": {"type": "DefaultSampler", "shuffle": True},
                "collate_fn": {"type": "default_collate"},
                "dataset": {"type": "NoisyNumbers"},
            },
            "val_dataloader": {
                "batch_size": 1,
                "num_workers": 0,
                "sampler": {"type": "DefaultSampler", "shuffle": False},
                "collate_fn": {"type": "default_collate"},
                "dataset": {"type": "NoisyNumbers"},
            },
            "val_evaluator": {"type": "Weight"},
            "val_cfg": {},
            "train_cfg": {"type": "ResumableLoop", "max_epochs": EPOCHS, "val_interval": 2},
            "optim_wrapper": {"optimizer": {"type": "SGD", "lr": 0.1, "momentum": 0.9}},
            "param_scheduler": [
                {"type": "LinearLR", "start_factor": 0.1, "by_epoch": False, "begin": 0, "end": 7},
                {"type": "MultiStepLR", "by_epoch": True, "milestones": [1, 2], "gamma": 0.5},
            ],
            "default_hooks": {"checkpoint": {"type": "AtomicCheckpoint", "by_epoch": False}},
            "custom_hooks": [{"type": "Diary"}, {"type": "PlainCheckpoint"}],
            "randomness": {"seed": 3},
            "log_level": "WARNING",
        }
    )
    cfg.merge_from_dict(values)
    return cfg


COUNT = iter(range(10**6))


def train(cfg):
    """Returns the runner, and the diary of what it did; a run that dies gives up its own."""
    cfg.experiment_name = f"toy{next(COUNT)}"
    runner = Runner.from_cfg(cfg)
    diary = next(hook for hook in runner.hooks if isinstance(hook, Diary))
    try:
        runner.train()
    except KeyboardInterrupt:
        runner.train_loop.dataloader._iterator = None  # its workers go with it
    return runner, diary


def state(runner):
    """All tensors and numbers that a training leaves, as bytes that can be compared."""
    optimizer = runner.optim_wrapper.state_dict()["state"]
    tensors = {**runner.model.state_dict()}
    for index, buffers in optimizer.items():
        tensors.update({f"{index}.{name}": value for name, value in buffers.items()})
    return {name: torch.as_tensor(value).numpy().tobytes() for name, value in tensors.items()}
