"""COCO 2017, the 1x schedule of mmdetection 3.3.0: 12 epochs at batch 16 (section 5.2).

Set by name: --cfg-options backbone_file=... data_root=... max_epochs=... global_batch_size=...
seed=...
"""

_base_ = ["mmdet::_base_/datasets/coco_instance.py", "mmdet::_base_/schedules/schedule_1x.py"]

data_root = "data/coco"
max_epochs = 12
global_batch_size = 16
base_lr = 0.02  # for base_batch_size images; scaled linearly
base_batch_size = 16

protocol = dict(
    name="frozen_1x", states=dict(dataset="coco2017", train_images=118287, val_images=5000)
)

# None: set by data_root, global_batch_size, base_lr and max_epochs
train_dataloader = dict(batch_size=None, dataset=dict(data_root=None))
val_dataloader = dict(dataset=dict(data_root=None))
test_dataloader = dict(dataset=dict(data_root=None))
optim_wrapper = dict(optimizer=dict(lr=None))
train_cfg = dict(type="ResumableLoop", max_epochs=None, val_interval=4)
auto_scale_lr = None  # done by base_lr, with the arithmetic in the log
val_evaluator = dict(_delete_=True, type="CocoAP")
test_evaluator = dict(_delete_=True, type="CocoAP")
