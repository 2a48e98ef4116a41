"""The same on a frozen ShuffleNet v2-50; see ./mask_rcnn_sh50.py."""

_base_ = ["./cityscapes.py"]

model = dict(backbone=dict(encoder="shufflenetv2_50"), neck=dict(in_channels=[244, 488, 976, 2048]))
