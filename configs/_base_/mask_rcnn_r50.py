"""Mask R-CNN on a frozen ResNet-50 (section 5.2).

SyncBN in FPN, box and mask head; a 4conv-1fc box head.
"""

_base_ = ["mmdet::_base_/models/mask-rcnn_r50_fpn.py", "mmdet::_base_/default_runtime.py"]
custom_imports = dict(
    imports=[
        "transfer.backbones",
        "transfer.hooks",
        "transfer.metrics",
        "pretrain.engine.checkpoint",
        "pretrain.engine.finite",
        "pretrain.engine.pace",
        "pretrain.engine.watchdog",
        "pretrain.step.data_parallel",
    ]
)
model_wrapper_cfg = dict(type="AnyDeviceDataParallel")

norm_cfg = dict(type="SyncBN", requires_grad=True)
model = dict(
    backbone=dict(_delete_=True, type="TransferBackbone", encoder="resnet50", frozen_stages=4),
    neck=dict(norm_cfg=norm_cfg),
    roi_head=dict(
        bbox_head=dict(type="Shared4Conv1FCBBoxHead", conv_out_channels=256, norm_cfg=norm_cfg),
        mask_head=dict(norm_cfg=norm_cfg),
    ),
)

seed = 0
default_hooks = dict(
    logger=dict(interval=50, ignore_last=False),
    checkpoint=dict(
        type="AtomicCheckpoint", interval=1, max_keep_ckpts=2, save_best="coco/mask_ap"
    ),
    finite=dict(type="FiniteNumbers"),
    pace=dict(type="Pace"),
    progress=dict(type="Progress"),
)
custom_hooks = [
    dict(type="FrozenCheck"),
    dict(type="DetectionPictures", count=6),
    dict(type="TransferRecord"),
    dict(type="PlainCheckpoint"),
]
