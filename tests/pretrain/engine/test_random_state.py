"""Equal places in a run give equal numbers."""

import numpy as np
import torch

from pretrain.engine.random_state import SeededSamples, seed_everything
from tests.helpers import toy_training as toy


def drawn():
    import random

    return (random.random(), np.random.rand(), float(torch.rand(())))


def test_equal_places_give_equal_numbers_and_others_others():
    places = [(0, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (1, 0, 0, 0)]
    numbers = []
    for place in places:
        seed_everything(*place)
        numbers.append(drawn())
        drawn()
        seed_everything(*place)
        assert drawn() == numbers[-1]
    assert len({value for triple in numbers for value in triple}) == 3 * len(places)


class Batches(toy.NoisyNumbers):
    """torch's loader asks a dataset that has this method for a whole batch."""

    def __getitems__(self, indices):
        return [self[index] for index in indices]


def test_a_dataset_that_gives_whole_batches_is_seeded_and_indexed_too():
    toy.DATASETS.register_module(module=Batches, force=True)
    dataset = SeededSamples({"type": "Batches"}, seed=0)
    first, same, other = (dataset.__getitems__(keys) for keys in ([13, 2], [13, 2], [23, 2]))
    assert [sample["x"][0] for sample in first] == [3, 2]
    assert all(torch.equal(a["x"], b["x"]) for a, b in zip(first, same, strict=True))
    assert other[0]["x"][0] == 3 and not torch.equal(first[0]["x"], other[0]["x"])
    assert not hasattr(SeededSamples({"type": "NoisyNumbers"}, seed=0), "__getitems__")
    assert dataset.metainfo == {"name": "noise"}
