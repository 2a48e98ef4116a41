"""The demo's detector: the same modules, frozen backbone and schedule shape as the paper's, 32
channels where that has 256, for images of 128 px."""

_base_ = ["./mask_rcnn_r50.py"]
model = dict(
    backbone=dict(encoder="resnet_tiny"),
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=32),
    rpn_head=dict(
        in_channels=32, feat_channels=32, anchor_generator=dict(scales=[5])
    ),  # 20 to 320 px; COCO's 8 is for images of 800 px
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=32, finest_scale=20),
        mask_roi_extractor=dict(out_channels=32, finest_scale=20),
        bbox_head=dict(in_channels=32, conv_out_channels=32, fc_out_channels=128, num_classes=5),
        mask_head=dict(in_channels=32, conv_out_channels=32, num_classes=5),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=128)),
        rpn_proposal=dict(nms_pre=200, max_per_img=100),
        rcnn=dict(sampler=dict(num=64)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=100), rcnn=dict(max_per_img=30)),
)

global_batch_size = 8
base_lr = 0.1  # tuned on the drawn scenes; every trained layer has a norm
base_batch_size = 8
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", momentum=0.9, weight_decay=1e-4),
    clip_grad=dict(max_norm=10),
)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=1, max_keep_ckpts=2))
