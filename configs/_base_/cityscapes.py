"""Mask R-CNN on a frozen ResNet-50, Cityscapes, 64 epochs (section 5.2), as mmdetection 3.3.0 does.

Except that its config starts from a detector trained on COCO, which would measure COCO's transfer;
here nothing but the backbone comes from elsewhere.
First: python -m transfer.prepare cityscapes --data-root data/cityscapes

Set by name: --cfg-options backbone_file=... data_root=... max_epochs=... global_batch_size=...
seed=...
"""

_base_ = [
    "./mask_rcnn_r50.py",
    "mmdet::_base_/datasets/cityscapes_instance.py",
    "mmdet::_base_/schedules/schedule_1x.py",
]

data_root = "data/cityscapes"
max_epochs = 8  # of the images repeated 8 times: 64
global_batch_size = 8
base_lr = 0.01  # for base_batch_size images; scaled linearly
base_batch_size = 8

protocol = dict(
    name="frozen_64ep", states=dict(dataset="cityscapes", train_images=2975, val_images=500)
)

model = dict(
    roi_head=dict(
        bbox_head=dict(
            num_classes=8, loss_bbox=dict(type="SmoothL1Loss", beta=1.0, loss_weight=1.0)
        ),
        mask_head=dict(num_classes=8),
    )
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type="MultiStepLR", by_epoch=True, begin=0, end=8, milestones=[7], gamma=0.1),
]
# None: set by data_root, global_batch_size, base_lr and max_epochs
train_dataloader = dict(batch_size=None, dataset=dict(dataset=dict(data_root=None)))
val_dataloader = dict(dataset=dict(data_root=None))
test_dataloader = dict(dataset=dict(data_root=None))
optim_wrapper = dict(optimizer=dict(lr=None))
train_cfg = dict(type="ResumableLoop", max_epochs=None, val_interval=4)
auto_scale_lr = None  # done by base_lr, with the arithmetic in the log
val_evaluator = dict(_delete_=True, type="CityscapesAP")
test_evaluator = dict(_delete_=True, type="CityscapesAP")
