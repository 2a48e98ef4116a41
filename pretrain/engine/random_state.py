"""Randomness as a function of what it is for, not of what was drawn before.

Every training iteration and every training sample starts from a state of its own, made of the run's
seed and its place in the run. So there is no random state to save, and none to lose: a continued
run draws the numbers of an undisturbed one, whatever the number of workers, however far they had
read ahead, and whether or not a validation came in between.
"""

import random
from typing import Any

import numpy as np
import torch
from mmengine.registry import DATASETS
from torch.utils.data import Dataset

ITERATION, SAMPLE = range(2)  # what the numbers are for; the first part of the place


def seed_everything(seed: int, *place: int) -> None:
    """Set the global generators of Python, NumPy and torch, and the GPUs' where any is in use.

    Args:
        seed: of the run.
        place: whole numbers from 0; equal ones give equal states, others independent ones.
    """
    python, numpy, cpu = np.random.SeedSequence([seed, *place]).generate_state(3).tolist()
    random.seed(python)
    np.random.seed(numpy)
    torch.default_generator.manual_seed(cpu)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(cpu)


@DATASETS.register_module()
class SeededSamples(Dataset[Any]):
    """A dataset whose transforms draw from the global generators, seeded before each sample.

    mmdetection's transforms do. It is indexed by keys (:mod:`pretrain.engine.sampler`);
    everything else is the inner dataset's.

    Args:
        dataset: config of the dataset.
        seed: of the run.
    """

    def __init__(self, dataset: dict[str, Any], seed: int) -> None:
        self.dataset = DATASETS.build(dataset)
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: int) -> Any:
        """The sample of ``key`` = epoch * length + index."""
        epoch, index = divmod(key, len(self))
        seed_everything(self.seed, SAMPLE, epoch, index)
        return self.dataset[index]

    def get_data_info(self, key: int) -> dict[str, Any]:
        """What is known of a sample before it is read; mmdetection groups by it."""
        return self.dataset.get_data_info(key % len(self))

    def __getattr__(self, name: str) -> Any:
        if name == "dataset":  # not there yet: being unpickled
            raise AttributeError(name)
        found = getattr(self.dataset, name)
        return self._batch if name == "__getitems__" else found

    def _batch(self, keys: list[int]) -> Any:
        """torch's loader asks a dataset that can for a whole batch at once."""
        seed_everything(self.seed, SAMPLE, *divmod(keys[0], len(self)))
        return self.dataset.__getitems__([key % len(self) for key in keys])
