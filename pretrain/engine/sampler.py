"""The order of the samples: a function of seed and epoch, that can be entered at any batch."""

from collections.abc import Iterator, Sized
from itertools import islice
from typing import Any

from mmengine.dataset import DefaultSampler
from mmengine.registry import DATA_SAMPLERS
from torch.utils.data import BatchSampler, Sampler


@DATA_SAMPLERS.register_module()
class EpochKeySampler(DefaultSampler):
    """mmengine's sampler, with the epoch in what it gives: epoch * length of the dataset + index.

    A worker reads ahead and lives on from epoch to epoch, so the key is how a dataset knows which
    epoch a sample is for. The few samples that the processes cannot share evenly are left out,
    where mmengine would repeat some: they could only stand in an incomplete batch.
    """

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int | None = None) -> None:
        super().__init__(dataset, shuffle, seed, round_up=False)
        self.num_samples = len(dataset) // self.world_size
        self.total_size = self.num_samples * self.world_size

    def __iter__(self) -> Iterator[int]:
        first = self.epoch * len(self.dataset)
        return (first + index for index in super().__iter__())


@DATA_SAMPLERS.register_module()
class ResumableBatches(Sampler[list[int]]):
    """The batches of an epoch from number ``start`` on; those before it are never read.

    Whole batches are skipped, not samples, because a sampler that groups samples (by aspect ratio)
    is still holding some back when a batch is complete.

    Args:
        sampler: gives the samples; mmengine's ``DistSamplerSeedHook`` tells it the epoch.
        batch_size: samples of one process.
        drop_last: leave out an incomplete last batch.
        batches: config of the batch sampler; torch's own by default.
    """

    def __init__(
        self,
        sampler: Sampler[int],
        batch_size: int,
        drop_last: bool = False,
        batches: dict[str, Any] | None = None,
    ) -> None:
        self.sampler = sampler
        self.start = 0
        self.batches = BatchSampler(sampler, batch_size, drop_last)
        if batches is not None:
            given = {"sampler": sampler, "batch_size": batch_size, "drop_last": drop_last}
            self.batches = DATA_SAMPLERS.build(batches, default_args=given)

    def __iter__(self) -> Iterator[list[int]]:
        return islice(iter(self.batches), self.start, None)

    def __len__(self) -> int:
        """Batches of a whole epoch, wherever it starts."""
        return len(self.batches)
