"""Frozen is frozen, what a record says, and SyncBN of FPN and heads on two processes."""

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmdet.evaluation import CocoMetric
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.structures import InstanceData
from PIL import Image
from torch import nn

from pretrain.step.sync_norm import synchronise_on_cpu
from results.record.protocol import incomplete
from results.record.run_record import RunRecord
from tests.helpers.detectors import LOCO, as_arguments, options, read
from tests.helpers.two_processes import in_two_processes
from transfer import train
from transfer.backbones import TransferBackbone
from transfer.hooks import DetectionPictures, FrozenCheck, TransferRecord, evaluated_images

ROIS = (5, 3)  # regions of interest, of which each process has its own number


def make_detector() -> nn.Module:
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


def worker(rank: int, folder: Path) -> None:
    detector = make_detector()
    synchronise_on_cpu(detector)
    found = outputs(detector, *inputs(rank))
    gradients = {name: p.grad for name, p in detector.named_parameters() if p.grad is not None}
    torch.save((found, gradients, dict(detector.named_buffers())), folder / f"rank{rank}")


@pytest.mark.slow
def test_fpn_and_heads_see_the_batch_of_all_processes(tmp_path):
    in_two_processes(lambda rank: worker(rank, tmp_path), tmp_path)
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


# ---- frozen means frozen -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "moved",
    ["conv1.weight", "bn1.running_mean", "bn1.num_batches_tracked", "layer4.0.conv3.weight"],
)
def test_nothing_is_saved_beside_a_frozen_tensor_that_moved(moved):
    """By a single bit: neither a checkpoint nor, at the end, a record; nor does a resumed run."""
    backbone = TransferBackbone("resnet_tiny", frozen_stages=4, exact=True)
    runner = SimpleNamespace(
        model=SimpleNamespace(backbone=backbone), logger=SimpleNamespace(info=lambda text: None)
    )
    check = FrozenCheck()
    check.before_run(runner)
    check.before_train(runner)
    checkpoint = {"meta": {}}
    check.before_save_checkpoint(runner, checkpoint)
    check.after_train(runner)
    with torch.no_grad():
        value = dict(backbone.frozen_tensors())[moved].view(-1)[:1]
        value.copy_(torch.nextafter(value, value + 1) if value.is_floating_point() else value + 1)
    message = f"1 frozen tensors changed during training.*: {moved}"
    with pytest.raises(RuntimeError, match=message):
        check.before_save_checkpoint(runner, {"meta": {}})
    with pytest.raises(RuntimeError, match=message):
        check.after_train(runner)
    resumed = FrozenCheck()
    resumed.before_run(runner)
    resumed.after_load_checkpoint(runner, checkpoint)
    with pytest.raises(RuntimeError, match=message):
        resumed.before_train(runner)


# ---- pictures, metrics, images that came through -------------------------------------------------


def test_a_picture_that_cannot_be_drawn_ends_no_run(tmp_path):
    told = []
    runner = SimpleNamespace(
        logger=SimpleNamespace(warning=told.append), work_dir=str(tmp_path),
        val_dataloader=SimpleNamespace(dataset=SimpleNamespace(metainfo={"classes": ("disc",)})),
    )  # fmt: skip
    objects = InstanceData(
        bboxes=torch.tensor([[1.0, 1, 9, 9]]), labels=torch.tensor([0]),
        scores=torch.tensor([0.9]), masks=torch.ones(1, 16, 12, dtype=torch.bool),
    )  # fmt: skip
    sample = SimpleNamespace(img_path=str(tmp_path / "a.png"), pred_instances=objects)
    DetectionPictures().after_val_iter(runner, 0, outputs=[sample])  # no such picture
    Image.new("RGB", (16, 12)).save(sample.img_path)  # masks of another shape
    DetectionPictures().after_val_iter(runner, 1, outputs=[sample])
    Image.new("RGB", (12, 16)).save(sample.img_path)
    DetectionPictures().after_val_iter(runner, 2, outputs=[sample])
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["002.png"]
    (tmp_path / "a.png").write_bytes(b"no image")  # in a later validation
    DetectionPictures().after_val_iter(runner, 2, outputs=[sample])
    assert [words.partition(":")[0] for words in told] == [f"no picture of {sample.img_path}"] * 3
    assert told[-1].endswith("cannot be read as an image")
    assert list((tmp_path / "pictures").iterdir()) == []


def test_another_metric_is_refused_before_the_training():
    evaluator = SimpleNamespace(metrics=[CocoMetric()])
    runner = SimpleNamespace(val_loop=SimpleNamespace(evaluator=evaluator))
    with pytest.raises(ValueError, match=r"val_evaluator is CocoMetric, .* set its type to CocoAP"):
        TransferRecord().before_train(runner)


@pytest.mark.parametrize(("looked_at", "stated"), [(4, 4), (4, 0), (3, 4), (4, 60), (0, 4)])
def test_images_that_were_not_evaluated_are_counted(looked_at, stated):
    """Of four that the annotations have, and of as many as the protocol states."""
    metric = SimpleNamespace(evaluated_images=looked_at, annotated_images=4 if looked_at else 0)
    cfg = Config({"protocol": {"states": {"val_images": stated} if stated else {}}})
    counts = evaluated_images(cfg, metric)
    assert counts == {"evaluated": looked_at, "expected": max(4 if looked_at else 0, stated)}
    text = f"incomplete: evaluated on {looked_at} of {max(4, stated)} images"
    assert incomplete(**counts) == ((text,) if looked_at < max(4, stated) else ())


@pytest.mark.parametrize(
    ("annotations", "name"), [(36781, "coco2017"), (36780, "coco (118287+5000 images)")]
)
def test_another_annotation_file_of_cocos_images_is_not_coco(annotations, name, monkeypatch):
    """val2017's 36,335 objects and 446 crowds; a file that lost one is another dataset."""
    cfg = copy.deepcopy(read("configs/mask_rcnn_loco_r50_frozen.py"))
    counts = iter([(118287, 860001), (5000, annotations)])

    def check(cfg, dataset):
        images, count = next(counts)
        objects = SimpleNamespace(other=0)
        return SimpleNamespace(images=images, annotations=count, objects=objects, fingerprint="f")

    monkeypatch.setattr(train, "check_dataset", check)
    train.prepare_data(cfg)
    assert cfg.dataset.name == name


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine without GPUs")
def test_the_command_on_two_processes(coco, backbone_file, run, tmp_path):
    values = as_arguments(options(coco, backbone_file))
    done = run("tools/dist_train.sh", LOCO, 2, "--work-dir", tmp_path, *values)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    record = RunRecord.read(tmp_path / "record.json")
    assert (record.world_size, record.global_batch_size) == (2, 8)
    assert record.norm == "SyncBatchNorm over 2 processes + frozen BatchNorm"
    assert {"box_ap", "mask_ap"} <= record.metrics.keys()
    assert (record.evaluated_images, record.expected_images) == (4, 60)  # what the demo states
    assert "incomplete: evaluated on 4 of 60 images" in record.deviations
