"""Mask R-CNN on the demo's frozen Greedy InfoMax backbone, drawn scenes in Cityscapes' format.

bash tools/dist_train.sh configs/demo/mask_rcnn_gim_cityscapes.py
"""

_base_ = ["../_base_/demo_mask_rcnn.py", "../_base_/demo_cityscapes.py"]

method = "gim"
backbone_file = "demo_out/runs/pretrain_gim/backbone.safetensors"
model = dict(roi_head=dict(bbox_head=dict(num_classes=8), mask_head=dict(num_classes=8)))
