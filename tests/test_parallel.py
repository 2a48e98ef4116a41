"""Two processes with batch N are one process with batch 2N (float64, gloo, frozen norm)."""

import copy

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.optim import OptimWrapper

from pretrain.lars import LARS
from pretrain.model import LocalContrastive
from pretrain.parallel import LocalDistributed

STEPS, IMAGES = 3, 8


def make_model(method: str) -> LocalContrastive:
    torch.manual_seed(0)
    preprocessor = {"type": "TwoViewPreprocessor", "mean": [0.5] * 3, "std": [0.25] * 3}
    decoder = {"conv_blocks": 1, "out_dim": 16}
    return LocalContrastive("resnet_tiny", method, decoder, 0.1, preprocessor).double().eval()


def batches() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    size = (STEPS, IMAGES, 2, 3, 32, 32)
    return list(torch.randint(0, 256, size, dtype=torch.uint8, generator=generator))


def train(model, parts) -> list[dict[str, float]]:
    wrapper = OptimWrapper(LARS(model.parameters(), lr=1.0, weight_decay=1e-6))
    steps = [model.train_step({"views": views}, wrapper) for views in parts]
    return [{name: float(loss) for name, loss in step.items()} for step in steps]


def worker(rank: int, method: str, store: str, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    model = make_model(method)
    if rank:  # the wrapper has to give it rank 0's weights
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1)
    half = IMAGES // 2
    losses = train(LocalDistributed(model), [b[rank * half : (rank + 1) * half] for b in batches()])
    torch.save({"losses": losses, "weights": model.state_dict()}, f"{out}{rank}")
    dist.destroy_process_group()


@pytest.mark.parametrize("method", ["simclr", "gim", "loco"])
def test_two_processes_equal_one(method, tmp_path):
    model = make_model(method)
    start = copy.deepcopy(model.state_dict())
    losses = train(model, batches())
    mp.spawn(worker, (method, str(tmp_path / "store"), str(tmp_path / "rank")), nprocs=2)
    for rank in range(2):
        found = torch.load(tmp_path / f"rank{rank}", weights_only=True)
        for ours, theirs in zip(losses, found["losses"], strict=True):
            assert theirs == pytest.approx(ours, rel=1e-9)
        for name, weight in model.state_dict().items():
            torch.testing.assert_close(found["weights"][name], weight, rtol=1e-9, atol=1e-12)
    convolutions = [k for k in start if k.endswith("conv1.weight")]
    moved = [not torch.equal(model.state_dict()[k], start[k]) for k in convolutions]
    assert all(moved), "a convolution that did not train proves nothing"
