"""What ``tools/measure.py throughput`` makes of its clock, and that its competitors do the same."""

import pytest
import torch
from PIL import Image

from tools.measure import throughput as measure_throughput
from tools.measure import throughput_loaders, throughput_steps

LIGHTLY = (
    "lightly (.venv/bin/python -m tools.setup.pip_locked tools/setup/locks/bench.txt "
    "--no-build-isolation)"
)


def test_rates_and_ratios_by_hand():
    now = [0.0]

    def takes(*seconds):
        times = iter(seconds)

        def work():
            now[0] += next(times)
            return 10

        return work

    competitors = {"ours": takes(99, 1, 2, 1), "lightly": takes(99, 4, 2, 5)}  # 99: not counted
    rates = measure_throughput.rounds(competitors, 3, lambda: now[0])
    assert rates == {"ours": [10, 5, 10], "lightly": [2.5, 5, 2]}
    assert measure_throughput.summary(rates, "lightly") == {
        "ours": {"images_per_second": 10, "ratio": 4, "ratio_range": [1, 5]},
        "lightly": {"images_per_second": 2.5, "ratio": 1, "ratio_range": [1, 1]},
    }


@pytest.fixture
def photographs(tmp_path):
    measure_throughput.draw_photographs(tmp_path, number=2)
    return tmp_path


def test_drawn_photographs_are_of_cocos_size_and_weight(photographs):
    sizes = [path.stat().st_size for path in sorted(photographs.iterdir())]
    assert len(sizes) == 2 and all(60_000 < size < 300_000 for size in sizes), sizes
    with Image.open(photographs / "000.jpg") as image:
        assert image.size == (640, 480) and image.mode == "RGB"


def test_every_loader_gives_two_views(photographs):
    pytest.importorskip("lightly", reason=LIGHTLY)
    for name, loader in throughput_loaders.LOADERS.items():
        sample = loader(photographs, 32)[1]
        views = sample["views"] if isinstance(sample, dict) else sample
        assert [tuple(view.shape) for view in views] == [(3, 32, 32)] * 2, name
        whole = views[0].dtype == torch.uint8
        assert whole == (name in ("ours", "ours_colour_on_device"))
        assert whole or -2.2 < float(views[0].min()) < float(views[0].max()) < 2.7  # normalised


def test_both_steps_train_as_many_weights(monkeypatch):
    pytest.importorskip("lightly", reason=LIGHTLY)
    weights = []

    class Counting(torch.optim.SGD):
        def __init__(self, parameters, **options):
            parameters = list(parameters)
            weights.append(sum(p.numel() for p in parameters if p.ndim > 1))
            super().__init__(parameters, **options)

    monkeypatch.setattr(torch.optim, "SGD", Counting)
    work = throughput_steps.competitors(2, 32, "float32", torch.device("cpu"))
    assert [step() for step in work.values()] == [2, 2]
    assert weights[0] == weights[1] > 20e6
