"""Mask R-CNN on the demo's frozen LoCo backbone, drawn scenes in COCO's format.

bash tools/dist_train.sh configs/demo/mask_rcnn_loco.py
"""

_base_ = ["../_base_/demo_mask_rcnn.py", "../_base_/demo_coco.py"]

method = "loco"
backbone_file = "demo_out/runs/pretrain_loco/backbone.safetensors"
