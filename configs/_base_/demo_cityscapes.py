"""The drawn scenes in Cityscapes' format; `python -m transfer.prepare cityscapes` comes first."""

_base_ = ["mmdet::_base_/datasets/coco_instance.py"]

data_root = "demo_out/data/cityscapes"
dataset_type = "CityscapesDataset"
max_epochs = 3
protocol = dict(
    name="demo_frozen", states=dict(dataset="scenes_cityscapes", train_images=400, val_images=60)
)

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="Resize", scale=(256, 128), keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(256, 128), keep_ratio=True),
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
        type=dataset_type,
        ann_file="annotations/instancesonly_filtered_gtFine_train.json",
        data_prefix=dict(img="leftImg8bit/train/"),
        filter_cfg=dict(filter_empty_gt=True, min_size=8),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(
        data_root=None,
        type=dataset_type,
        ann_file="annotations/instancesonly_filtered_gtFine_val.json",
        data_prefix=dict(img="leftImg8bit/val/"),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type="CityscapesAP")
test_evaluator = dict(_delete_=True, type="CityscapesAP")
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type="MultiStepLR", by_epoch=True, milestones=[2], gamma=0.1),
]
train_cfg = dict(type="ResumableLoop", val_interval=3)
