"""The order of samples: mmengine's, entered at any batch."""

from itertools import islice

import pytest
from mmengine.dataset import DefaultSampler

from pretrain.engine.sampler import EpochKeySampler, ResumableBatches


def test_the_order_is_mmengines_with_the_epoch_in_it():
    keys, indices = (cls(range(10), seed=4) for cls in (EpochKeySampler, DefaultSampler))
    for epoch in (0, 7):
        keys.set_epoch(epoch)
        indices.set_epoch(epoch)
        assert list(keys) == [10 * epoch + index for index in indices]


class Shapes:
    """Nine images, of which every third is upright."""

    def __len__(self):
        return 9

    def get_data_info(self, key):
        return {"width": 4, "height": 8 if key % 3 == 0 else 2}


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("drop_last", [False, True])
def test_an_epoch_entered_at_a_batch_goes_on_as_the_whole_one(grouped, drop_last):
    from mmdet.utils import register_all_modules

    register_all_modules()
    batches = {"type": "AspectRatioBatchSampler"} if grouped else None
    sampler = EpochKeySampler(Shapes(), seed=0)
    whole = list(ResumableBatches(sampler, 2, drop_last, batches))
    if grouped:
        full = [[key % 3 == 0 for key in batch] for batch in whole[:3]]
        assert all(len(set(batch)) == 1 for batch in full)
    assert len(whole) == (4 if drop_last else 5)
    for start in range(len(whole) + 1):
        entered = ResumableBatches(sampler, 2, drop_last, batches)
        entered.start = start
        assert list(entered) == list(islice(whole, start, None))
        assert len(entered) == len(whole)
