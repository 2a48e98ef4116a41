"""The plugin: features, freezing, strict loading, a run from end to end, and bad input."""

import copy
import json
import re
import shutil
from types import SimpleNamespace

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.structures import InstanceData
from PIL import Image

from pretrain.backbone_file import load_backbone
from pretrain.encoders import build_encoder
from pretrain.step.norm import describe_norm
from results.record.run_record import RunRecord
from transfer.backbones import TransferBackbone
from transfer.hooks import DetectionPictures, FrozenCheck, frozen_digests
from transfer.train import prepare

register_all_modules()


def config(coco, backbone_file=None, name="demo/mask_rcnn_loco", **values):
    cfg = Config.fromfile(f"configs/{name}.py")
    cfg.merge_from_dict({"data_root": str(coco), **values})
    if backbone_file is not None:
        cfg.backbone_file = str(backbone_file)
    return cfg


# ---- the backbone --------------------------------------------------------------------------------


def test_features_are_the_encoders_bit_for_bit(backbone_file):
    backbone = TransferBackbone("resnet_tiny", str(backbone_file), frozen_stages=4, exact=True)
    encoder = build_encoder("resnet_tiny").eval()
    load_backbone(encoder, backbone_file)
    images = torch.randn(2, 3, 64, 96)
    backbone.train()
    with torch.no_grad():
        for found, expected in zip(backbone(images), encoder(images), strict=True):
            assert torch.equal(found, expected)


@pytest.mark.parametrize("frozen_stages", range(5))
def test_what_is_frozen(frozen_stages):
    backbone = TransferBackbone("resnet_tiny", frozen_stages=frozen_stages, exact=True).train()
    prefixes = [("conv1", "bn1", "layer1"), ("layer2",), ("layer3",), ("layer4",)]
    frozen = tuple(p for stage in prefixes[:frozen_stages] for p in stage)
    for name, parameter in backbone.encoder.named_parameters():
        assert parameter.requires_grad != name.startswith(frozen) if frozen else True, name
    for name, module in backbone.encoder.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.training != (bool(frozen) and name.startswith(frozen)), name
    features = backbone(torch.randn(2, 3, 64, 64))
    assert [f.requires_grad for f in features] == [k >= frozen_stages for k in range(4)]
    expected = {n for n in backbone.encoder.state_dict() if frozen and n.startswith(frozen)}
    assert {name for name, _ in backbone.frozen_tensors()} == expected


def test_stages_that_do_not_exist_are_refused():
    with pytest.raises(
        ValueError, match="stages res2, res3, res4, res5: frozen_stages must be 0 to 4"
    ):
        TransferBackbone("resnet_tiny", frozen_stages=5)


# ---- frozen means frozen -------------------------------------------------------------------------


class Stub:
    """As much of a Runner as FrozenCheck looks at."""

    def __init__(self, model):
        self.model = model
        self.logger = type("Logger", (), {"info": staticmethod(lambda text: None)})


def detector(coco, backbone_file):
    cfg = config(coco, backbone_file)
    prepare(cfg, world_size=1)
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model.train()


def test_frozen_stays_frozen_through_two_iterations(coco, backbone_file):
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    cfg = config(coco, backbone_file)
    prepare(cfg, world_size=1)
    cfg.model.backbone.frozen_stages = 2  # the other two train, so a leak would show
    from mmengine.model import revert_sync_batchnorm

    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    model.init_weights()
    model.train()
    check = FrozenCheck()
    check.before_run(Stub(model))
    check.before_train(Stub(model))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.02, weight_decay=1e-4))
    torch.manual_seed(0)
    for _ in range(2):
        sample = DetDataSample(metainfo={"img_shape": (128, 128), "batch_input_shape": (128, 128)})
        masks = torch.zeros(1, 128, 128, dtype=torch.uint8)
        masks[0, 20:60, 30:80] = 1
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor([[30.0, 20, 80, 60]]), labels=torch.tensor([1]),
            masks=BitmapMasks(masks.numpy(), 128, 128),
        )  # fmt: skip
        data = {
            "inputs": [torch.randint(0, 256, (3, 128, 128), dtype=torch.uint8) for _ in range(2)],
            "data_samples": [sample, sample.clone()],
        }
        model.train_step(data, wrapper)
    check.after_train(Stub(model))
    frozen = ("conv1.", "bn1.", "layer1.", "layer2.")
    for name, tensor in model.state_dict().items():
        moved = not torch.equal(tensor, before[name])
        if name.startswith("backbone.encoder."):
            assert moved != name.removeprefix("backbone.encoder.").startswith(frozen), name


@pytest.mark.parametrize("tensor", ["conv1.weight", "layer4.0.conv3.bias"])
def test_a_frozen_tensor_that_moved_stops_the_run(coco, backbone_file, tensor):
    model = detector(coco, backbone_file)
    check = FrozenCheck()
    check.before_run(Stub(model))
    check.before_train(Stub(model))
    with torch.no_grad():
        value = (
            model.backbone.encoder.state_dict()[tensor]
            .flatten()[:1]
            .set_(model.backbone.encoder.state_dict()[tensor].untyped_storage())
        )
        value[0] = torch.nextafter(value[0], torch.tensor(torch.inf))  # a single bit
    with pytest.raises(RuntimeError, match=f"1 frozen tensors changed.*{tensor}"):
        check.after_train(Stub(model))


def test_a_resumed_run_is_held_to_the_first_digests(coco, backbone_file):
    model = detector(coco, backbone_file)
    check = FrozenCheck()
    check.before_run(Stub(model))
    digests = frozen_digests(model.backbone)
    check.after_load_checkpoint(
        Stub(model), {"meta": {"frozen_sha256": digests | {"conv1.weight": "0"}}}
    )
    with pytest.raises(RuntimeError, match=r"conv1\.weight"):
        check.before_train(Stub(model))


# ---- heads, norms, metrics -----------------------------------------------------------------------


@pytest.mark.parametrize("method", ["random", "supervised", "simclr", "gim", "loco"])
def test_the_papers_detector(method):
    """Section 5.2, module by module, from the config that fills Table 2."""
    cfg = Config.fromfile(f"configs/mask_rcnn_{method}_r50_frozen.py")
    model = MODELS.build(cfg.model)
    assert cfg.method == method
    assert [p for p in model.backbone.parameters() if p.requires_grad] == []
    new = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.SyncBatchNorm)}
    assert sum(n.startswith("neck.") for n in new) == 8  # 4 lateral, 4 output convolutions
    assert sum(n.startswith("roi_head.bbox_head.shared_convs") for n in new) == 4
    assert sum(n.startswith("roi_head.mask_head.convs") for n in new) == 4
    box = model.roi_head.bbox_head
    assert [c.conv.out_channels for c in box.shared_convs] == [256] * 4
    assert [fc.out_features for fc in box.shared_fcs] == [1024]
    assert (cfg.max_epochs, cfg.global_batch_size, cfg.base_lr) == (12, 16, 0.02)
    assert cfg.param_scheduler[1].milestones == [8, 11]
    assert cfg.train_dataloader.dataset.pipeline[2].scale == (1333, 800)
    assert cfg.load_from is None


def test_the_record_says_which_norm_ran():
    from mmengine.model import revert_sync_batchnorm

    model = MODELS.build(Config.fromfile("configs/demo/mask_rcnn_random.py").model).train()
    assert describe_norm(model) == "SyncBatchNorm over 1 processes + frozen BatchNorm"
    reverted = revert_sync_batchnorm(model)
    assert (
        describe_norm(reverted) == "BatchNorm in place of SyncBN (one process) + frozen BatchNorm"
    )


# ---- a run from end to end -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(coco, backbone_file, run, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp("transfer")
    done = run(
        "tools/dist_train.sh", "configs/demo/mask_rcnn_loco.py", "--work-dir", work_dir,
        "--cfg-options",
        f"data_root={coco}", f"backbone_file={backbone_file}", "max_epochs=1",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return work_dir, done.stdout + done.stderr


def test_a_run_leaves_its_record(finished, backbone_file):
    work_dir, log = finished
    record = RunRecord.read(work_dir / "record.json")
    assert (record.kind, record.method, record.pretrain_epochs) == ("transfer", "loco", 1)
    assert record.backbone["sha256"] == record.backbone["provenance"]["weights_sha256"]
    assert {"box_ap", "mask_ap"} <= record.metrics.keys()
    assert "train_images: 16 instead of 400" in record.deviations
    assert "epochs: 1 instead of 5" in record.deviations
    assert record.norm == "BatchNorm in place of SyncBN (one process) + frozen BatchNorm"
    assert "34 tensors bit-identical before and after training" in log
    assert [p for p in record.artifacts["pictures"] if not (work_dir / p).is_file()] == []


def test_its_checkpoint_is_plain_data(finished):
    content = torch.load(finished[0] / "epoch_1.pth", weights_only=True)
    assert content["meta"]["epoch"] == 1 and "optimizer" in content


def test_a_run_killed_before_its_record_continues(finished, coco, backbone_file, run, tmp_path):
    """All epochs done, but neither evaluated nor recorded; run, data and backbone have moved."""
    coco = shutil.copytree(coco, tmp_path / "moved" / "data")
    backbone_file = shutil.copy(backbone_file, tmp_path / "moved" / "b.safetensors")
    work_dir = tmp_path / "run"
    shutil.copytree(finished[0], work_dir)
    (work_dir / "record.json").unlink()
    (work_dir / "last_checkpoint").write_text(str(work_dir / "epoch_1.pth"))
    done = run(
        "tools/dist_train.sh", "configs/demo/mask_rcnn_loco.py", "--resume", "--work-dir", work_dir,
        "--cfg-options", f"data_root={coco}", f"backbone_file={backbone_file}", "max_epochs=1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    first, again = (json.loads((d / "record.json").read_text()) for d in (finished[0], work_dir))
    assert again["metrics"] == first["metrics"] and again["norm"] == first["norm"]
    assert again["started_at"] == first["started_at"]
    assert again["config_hash"] == first["config_hash"]


# ---- bad input -----------------------------------------------------------------------------------


def test_missing_dataset(tmp_path, backbone_file):
    with pytest.raises(FileNotFoundError, match=r"cocodataset\.org"):
        prepare(config(tmp_path / "none", backbone_file), 1)


def test_annotations_without_their_image(coco, backbone_file, tmp_path):
    root = tmp_path / "coco"
    shutil.copytree(coco, root)
    missing = sorted((root / "train2017").iterdir())[3]
    missing.unlink()
    with pytest.raises(FileNotFoundError, match=missing.name):
        prepare(config(root, backbone_file), 1)


@pytest.mark.parametrize("which", ["train", "val"])
def test_sizes_that_are_exchanged(coco, backbone_file, tmp_path, which):
    """Of 128 x 128 pixels in the JSON, 96 x 128 on the disk (mmdetection#3796)."""
    root = tmp_path / "coco"
    shutil.copytree(coco, root)
    picture = sorted((root / f"{which}2017").iterdir())[1]
    Image.new("RGB", (96, 128)).save(picture)
    message = (
        rf"1 of \d+ images are not what .*{picture.name} has 96x128 pixels, listed are 128x128"
    )
    with pytest.raises(ValueError, match=message):
        prepare(config(root, backbone_file), 1)


def test_a_picture_that_cannot_be_drawn_ends_no_run(tmp_path):
    told = []
    runner = SimpleNamespace(
        logger=SimpleNamespace(warning=told.append), work_dir=str(tmp_path),
        val_dataloader=SimpleNamespace(dataset=SimpleNamespace(metainfo={"classes": ("disc",)})),
    )  # fmt: skip
    found = InstanceData(
        bboxes=torch.tensor([[1.0, 1, 9, 9]]), labels=torch.tensor([0]),
        scores=torch.tensor([0.9]), masks=torch.ones(1, 16, 12, dtype=torch.bool),
    )  # fmt: skip
    sample = SimpleNamespace(img_path=str(tmp_path / "a.png"), pred_instances=found)
    DetectionPictures().after_val_iter(runner, 0, outputs=[sample])  # no such picture
    Image.new("RGB", (16, 12)).save(sample.img_path)  # masks of another shape
    DetectionPictures().after_val_iter(runner, 1, outputs=[sample])
    Image.new("RGB", (12, 16)).save(sample.img_path)
    DetectionPictures().after_val_iter(runner, 2, outputs=[sample])
    assert [words.partition(":")[0] for words in told] == [f"no picture of {sample.img_path}"] * 2
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["002.png"]
    (tmp_path / "a.png").write_bytes(b"no image")  # in a later validation
    DetectionPictures().after_val_iter(runner, 2, outputs=[sample])
    assert (
        told[-1] == f"no picture of {sample.img_path}: {sample.img_path} cannot be read as an image"
    )
    assert list((tmp_path / "pictures").iterdir()) == []


def test_a_backbone_of_another_encoder(coco, backbone_file):
    with pytest.raises(ValueError, match=r"holds the weights of resnet_tiny, .* asks for resnet50"):
        prepare(config(coco, backbone_file, "mask_rcnn_loco_r50_frozen"), 1)


def test_a_backbone_of_another_method(coco, backbone_file):
    with pytest.raises(ValueError, match=r"was pretrained with loco, .* as gim"):
        prepare(config(coco, backbone_file, "demo/mask_rcnn_gim"), 1)


def test_a_missing_backbone_names_the_option(coco, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no backbone file .*--cfg-options backbone_file="):
        prepare(config(coco, tmp_path / "none.safetensors"), 1)


def test_a_truncated_backbone(coco, backbone_file, tmp_path):
    (tmp_path / "cut.safetensors").write_bytes(backbone_file.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="cut short"):
        prepare(config(coco, tmp_path / "cut.safetensors"), 1)


def test_another_normalisation(coco, backbone_file):
    values = {"model.data_preprocessor.mean": [0.0, 0.0, 0.0]}
    with pytest.raises(ValueError, match=r"mean \[123.6.*has mean \[0.0, 0.0, 0.0\]"):
        prepare(config(coco, backbone_file, **values), 1)


def test_no_backbone_for_a_pretrained_row(coco):
    cfg = config(coco)
    cfg.backbone_file = None
    with pytest.raises(ValueError, match="backbone_file is None, but the method is loco"):
        prepare(cfg, 1)


def test_heads_of_another_dataset(coco, backbone_file):
    for box, mask in ((80, 5), (5, 80), (80, 80)):
        values = {
            "model.roi_head.bbox_head.num_classes": box,
            "model.roi_head.mask_head.num_classes": mask,
        }
        message = f"bbox_head has {box} classes, mask_head {mask}, the dataset 5; set num_classes"
        with pytest.raises(ValueError, match=message):
            prepare(config(coco, backbone_file, **values), 1)


def test_a_single_class_without_its_comma(coco, backbone_file):
    values = {"train_dataloader.dataset.metainfo.classes": "disc"}
    with pytest.raises(ValueError, match=r"is the text 'disc'; write the names: \('disc',\)"):
        prepare(config(coco, backbone_file, **values), 1)


def test_some_of_the_classes_are_another_dataset(coco, backbone_file, capsys):
    """Even with the protocol's numbers of images: objects were left out."""
    heads = ("bbox_head", "mask_head")
    cfg = config(coco, backbone_file, **{f"model.roi_head.{h}.num_classes": 2 for h in heads})
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.metainfo.classes = ("disc", "star")
    cfg.protocol.states.update(train_images=16, val_images=4)
    prepare(cfg, 1)
    assert re.fullmatch(
        r"coco \(16\+4 images, without \d+ objects of other categories\)", cfg.dataset.name
    )
    assert re.search(
        r"train2017\.json: 16 images, \d+ left by filter_cfg; \d+ ordinary", capsys.readouterr().out
    )


@pytest.mark.parametrize(("begin", "end"), [(0, 1), (3, 4)])
def test_a_warmup_of_one_iteration_is_refused(begin, end, coco, backbone_file):
    """mmengine's own scheduler, stepped: the learning rate never leaves the start."""
    entry = {"type": "LinearLR", "start_factor": 0.01, "by_epoch": False, "begin": begin}
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = PARAM_SCHEDULERS.build({**entry, "end": end, "optimizer": optimizer})
    optimizer.step()
    for _ in range(9):
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)
    cfg = config(coco, backbone_file)
    cfg.param_scheduler[0].update(begin=begin, end=end)
    with pytest.raises(
        ValueError, match=r"stay at 0\.01 of its peak; set .*param_scheduler.0.end=N"
    ):
        prepare(copy.deepcopy(cfg), 1)
    cfg.param_scheduler[0].end += 1
    prepare(cfg, 1)


def test_an_error_reaches_the_user_as_one_line(run, tmp_path):
    done = run("tools/dist_train.sh", "configs/demo/mask_rcnn_random.py", "--cfg-options",
               f"data_root={tmp_path}/none")  # fmt: skip
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr
