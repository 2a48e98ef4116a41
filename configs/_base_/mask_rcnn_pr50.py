"""Mask R-CNN on a frozen PResNet-50; no row of the paper.

Four of the six stages feed the FPN, those nearest (in log2) to ResNet's strides 4, 8, 16, 32. The
levels keep ResNet's anchor sizes and RoI sizes. Padding to 56 makes every map exactly image /
stride.
"""

_base_ = ["./mask_rcnn_r50.py"]

strides = [4, 28 / 3, 14, 28]  # of res2, res4, res5, res7
model = dict(
    data_preprocessor=dict(pad_size_divisor=56),
    backbone=dict(encoder="presnet50", out_stages=(0, 2, 3, 5), frozen_stages=6),
    neck=dict(
        in_channels=[56, 576, 1024, 4096],
        # Keeps things in place at any ratio; mmdetection's nearest cell lies on average 2.2 px
        # (28 / 3 from 14) and 1.3 px (4 from 28 / 3) to one side.
        upsample_cfg=dict(mode="bilinear", align_corners=False),
    ),
    rpn_head=dict(
        anchor_generator=dict(
            strides=[*strides, 56],
            base_sizes=[4, 8, 16, 32, 64],
            # A strided map's cell j looks at px j stride + 1/2, half a pixel from its anchors. Here
            # it looks at (j + 1/2) stride - 3/2, so stride / 2 - 2 puts the anchors as near. The
            # fifth level is every other cell of the fourth.
            centers=[(0, 0), (8 / 3, 8 / 3), (5, 5), (12, 12), (12, 12)],
        )
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(featmap_strides=strides),
        mask_roi_extractor=dict(featmap_strides=strides),
    ),
)
