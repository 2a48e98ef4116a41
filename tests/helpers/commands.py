"""The launchers as a user starts them, on drawn photographs."""

import os
import signal
import subprocess
import sys

import pytest
import torch

from pretrain.engine.stopping import SIGNALS
from tests.helpers.places import ROOT

CONFIG = "configs/demo/pretrain_loco.py"
OPTIONS = [
    "--cfg-options", "epochs=2", "warmup_epochs=1", "global_batch_size=8",
    "train_dataloader.num_workers=0", "train_dataloader.persistent_workers=False",
    "train_dataloader.dataset.augmentation.size=32", "custom_hooks.0.interval=1",
    "env_cfg.dist_cfg.backend=gloo",
]  # fmt: skip
ON_CPU = pytest.mark.skipif(torch.cuda.is_available(), reason="a machine without GPUs")


def start(script, *arguments, cwd=ROOT, **environment) -> subprocess.Popen:
    """``bash tools/SCRIPT.sh ARGUMENTS`` in a session of its own, without a cluster's variables."""

    def as_in_a_shell():
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)

    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SLURM_") and name not in ("NNODES", "NODE_RANK", "MASTER_ADDR")
    }
    return subprocess.Popen(
        ["bash", os.path.relpath(ROOT / f"tools/{script}.sh", cwd), *map(str, arguments)],
        cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True, preexec_fn=as_in_a_shell,
        env={**clean, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip


def finish(process: subprocess.Popen, status: int = 0) -> str:
    """What it printed; it ends with this exit status."""
    log, _ = process.communicate(timeout=900)
    assert process.returncode == status, log
    return log
