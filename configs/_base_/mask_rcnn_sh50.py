"""Mask R-CNN on a frozen ShuffleNet v2-50 (section 5.2): the detector of ResNet-50, whose strides
it shares, over narrower features; those of res5 are conv6's."""

_base_ = ["./mask_rcnn_r50.py"]

model = dict(backbone=dict(encoder="shufflenetv2_50"), neck=dict(in_channels=[244, 488, 976, 2048]))
