"""The drawn scenes in COCO's format."""

_base_ = ["mmdet::_base_/datasets/coco_instance.py"]

data_root = "demo_out/data/coco"
max_epochs = 5
protocol = dict(
    name="demo_frozen", states=dict(dataset="scenes_coco", train_images=400, val_images=60)
)

metainfo = dict(classes=("disc", "square", "triangle", "star", "cross"))
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="Resize", scale=(128, 128), keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(128, 128), keep_ratio=True),
    dict(
        type="PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    ),
]
# None: set by data_root and global_batch_size
train_dataloader = dict(
    batch_size=None,
    num_workers=1,
    dataset=dict(
        data_root=None,
        metainfo=metainfo,
        filter_cfg=dict(filter_empty_gt=True, min_size=8),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    num_workers=1, dataset=dict(data_root=None, metainfo=metainfo, pipeline=test_pipeline)
)
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type="CocoAP")
test_evaluator = dict(_delete_=True, type="CocoAP")
train_cfg = dict(type="ResumableLoop", val_interval=5)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type="MultiStepLR", by_epoch=True, milestones=[4], gamma=0.1),
]
