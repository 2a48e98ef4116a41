"""A run that was broken off ends as if it had not been; real kills: tests/reliability."""

import pytest
import torch

from pretrain.engine.train_loop import resumable
from tests.helpers import toy_training as toy


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return toy.train(toy.config(tmp_path_factory.mktemp("undisturbed")))


def test_samples_differ_from_epoch_to_epoch(undisturbed):
    seen = [sample for _, _, batch in undisturbed[1].batches for sample in batch]
    assert sorted(sample[0] for sample in seen) == sorted([*range(toy.SAMPLES)] * toy.EPOCHS)
    assert len({sample[1] for sample in seen}) == toy.SAMPLES * toy.EPOCHS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("after", "workers"),
    [(3, 2), (5, 0), (10, 0), (14, 0)],  # in an epoch, at its end, before a validation
)
def test_a_continued_run_is_the_undisturbed_one(undisturbed, after, workers, tmp_path):
    death = [{"type": "Diary"}, {"type": "PlainCheckpoint"}, {"type": "Death", "after": after}]
    loading = {"train_dataloader.num_workers": workers}
    loading["train_dataloader.persistent_workers"] = workers > 0
    loading["default_hooks.checkpoint.interval"] = after
    broken, first = toy.train(toy.config(tmp_path, custom_hooks=death, **loading))
    assert broken.iter == after - 1
    torch.manual_seed(99)  # whatever happened in between
    last = str(tmp_path / f"iter_{after}.pth")
    cfg = toy.config(tmp_path, resume=True, load_from=last, **loading)
    runner, second = toy.train(cfg)
    whole, diary = undisturbed
    assert toy.state(runner) == toy.state(whole)
    assert first.batches + second.batches == diary.batches
    assert first.rates + second.rates == diary.rates
    assert first.validated + second.validated == diary.validated == [10, 15]


def test_a_number_of_iterations_ends_in_an_epoch(undisturbed, tmp_path):
    length = {"train_cfg.max_iters": 13, "train_cfg.max_epochs": 0}
    cfg = toy.config(tmp_path, **length)
    runner, diary = toy.train(cfg)
    assert diary.batches == undisturbed[1].batches[:13] and diary.validated == [10, 13]
    last = {"resume": True, "load_from": str(tmp_path / "iter_13.pth")}
    again, nothing = toy.train(toy.config(tmp_path, **length, **last))
    assert nothing.batches == [] and nothing.validated == [13]
    assert toy.state(again) == toy.state(runner)


def test_a_sampler_of_unknown_order_is_refused():
    with pytest.raises(ValueError, match=r"sampler is InfiniteSampler; .* DefaultSampler"):
        resumable({"sampler": {"type": "InfiniteSampler"}, "dataset": {}}, seed=0)
