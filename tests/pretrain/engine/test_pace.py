"""The first lines of a run say how fast it goes; dumps are in the log file alone."""

import logging
from types import SimpleNamespace

import pytest
from mmengine.config import Config

from pretrain.engine import pace
from pretrain.engine.atomic_files import AtomicRunner
from tests.helpers import toy_training as toy


def test_speed_and_remaining_time_are_said_early(monkeypatch, caplog):
    """Two seconds an iteration, a hundred of them, eight images in each."""
    clock, scalars = iter(range(0, 10**6, 2)), []
    monkeypatch.setattr(pace.time, "monotonic", lambda: next(clock))
    runner = SimpleNamespace(
        iter=0, max_iters=100, cfg=Config({"global_batch_size": 8}),
        logger=logging.getLogger("pace"),
        message_hub=SimpleNamespace(update_scalar=lambda *given: scalars.append(given)),
    )  # fmt: skip
    hook = pace.Pace()
    hook.before_train(runner)
    with caplog.at_level(logging.INFO):
        for runner.iter in range(60):
            hook.after_train_iter(runner, runner.iter)
    assert [line.split()[1] for line in caplog.messages] == ["1", "2", "5", "10", "20"]
    assert caplog.messages[0] == (
        "iteration 1 of 100: 2.00 s an iteration, 4.0 images a second, about 0:03:18 left"
    )
    assert "about 0:02:40 left" in caplog.messages[-1]  # 80 iterations
    assert scalars == [("train/images_per_s", pytest.approx(4.0))] * 60


def test_a_real_run_logs_them_and_keeps_dumps_to_the_file(tmp_path, capfd):
    cfg = toy.config(tmp_path, log_level="INFO", global_batch_size=toy.BATCH)
    cfg.experiment_name = "pace"
    runner = AtomicRunner.from_cfg(cfg)
    runner.register_hook(pace.Pace())
    runner.train()
    told = "".join(capfd.readouterr())
    (log,) = tmp_path.glob("*/*.log")
    for words in ("Config:\n", "System environment", "Hooks will be executed"):
        assert words in log.read_text() and words not in told
    assert "iteration 1 of 15: " in told and "images_per_s: " in told and "eta: " in told
