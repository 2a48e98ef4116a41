"""SyncBN of FPN and heads on two processes, without a GPU, against one (float64)."""

import copy
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.config import Config
from torch import nn

from pretrain.sync_norm import synchronise_on_cpu
from results.record import RunRecord

pytest.importorskip("mmdet")
ROIS = (5, 3)  # regions of interest, of which each process has its own number


def make_detector() -> nn.Module:
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules

    register_all_modules()
    cfg = Config.fromfile("configs/demo/mask_rcnn_random.py")
    torch.manual_seed(0)
    return MODELS.build(cfg.model).double().train()


def inputs(rank: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Four stages' features of two images, and features of regions of interest."""
    generator = torch.Generator().manual_seed(rank)
    sizes = [
        (2, 64, 16, 16),
        (2, 128, 8, 8),
        (2, 256, 4, 4),
        (2, 512, 2, 2),
        (ROIS[rank], 32, 7, 7),
    ]
    *stages, rois = (torch.randn(s, dtype=torch.float64, generator=generator) for s in sizes)
    return stages, rois


def outputs(detector: nn.Module, stages: list[torch.Tensor], rois: torch.Tensor):
    """Of the three parts that have norms, and the gradients of their parameters."""
    x = rois
    for layer in detector.roi_head.bbox_head.shared_convs:
        x = layer(x)
    found = [*detector.neck(tuple(stages)), x, detector.roi_head.mask_head(rois)]
    sum(output.square().sum() for output in found).backward()
    return [output.detach() for output in found]


def worker(rank: int, store: str, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    detector = make_detector()
    synchronise_on_cpu(detector)
    found = outputs(detector, *inputs(rank))
    gradients = {name: p.grad for name, p in detector.named_parameters() if p.grad is not None}
    torch.save((found, gradients, dict(detector.named_buffers())), f"{out}{rank}")
    dist.destroy_process_group()


@pytest.mark.slow
def test_fpn_and_heads_see_the_batch_of_all_processes(tmp_path):
    mp.spawn(worker, (str(tmp_path / "store"), str(tmp_path / "rank")), nprocs=2)
    found = [torch.load(tmp_path / f"rank{rank}", weights_only=True) for rank in range(2)]
    detector = make_detector()  # without a process group SyncBN is a plain batch norm
    start = copy.deepcopy(dict(detector.named_buffers()))
    (stages0, rois0), (stages1, rois1) = inputs(0), inputs(1)
    both = [torch.cat(pair) for pair in zip(stages0, stages1, strict=True)]
    expected = outputs(detector, both, torch.cat([rois0, rois1]))
    for output, *parts in zip(expected, found[0][0], found[1][0], strict=True):
        torch.testing.assert_close(torch.cat(parts), output, rtol=1e-10, atol=1e-10)
    named = {name: p.grad for name, p in detector.named_parameters() if p.grad is not None}
    assert named.keys() == found[0][1].keys()
    for name, grad in named.items():
        difference = found[0][1][name] + found[1][1][name] - grad
        assert difference.norm() <= 1e-9 * grad.norm() + 1e-9, name
    norms = [
        name for name, m in detector.named_modules()
        if isinstance(m, nn.SyncBatchNorm) and name.startswith(("neck.", "roi_head."))
    ]  # fmt: skip
    assert len(norms) == 8 + 4 + 4  # FPN, box head, mask head
    for name in (f"{norm}.running_{of}" for norm in norms for of in ("mean", "var")):
        buffer = detector.get_buffer(name)
        assert not torch.equal(buffer, start[name])
        for _, _, buffers in found:
            torch.testing.assert_close(buffers[name], buffer, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="two processes would need two GPUs")
def test_the_command_on_two_processes(coco, backbone_file, run, tmp_path):
    done = run(
        "tools/dist_train.sh", "configs/demo/mask_rcnn_loco.py", 2, "--work-dir", tmp_path,
        "--cfg-options", f"data_root={coco}", f"backbone_file={backbone_file}", "max_epochs=1",
        "train_dataloader.num_workers=0", "train_dataloader.persistent_workers=False",
        "val_dataloader.num_workers=0", "val_dataloader.persistent_workers=False",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    record = RunRecord.read(Path(tmp_path) / "record.json")
    assert (record.world_size, record.global_batch_size) == (2, 8)
    assert record.norm == "SyncBatchNorm over 2 processes + frozen BatchNorm"
    assert {"box_ap", "mask_ap"} <= record.metrics.keys()
