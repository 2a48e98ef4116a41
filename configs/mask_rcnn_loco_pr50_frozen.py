"""LoCo's PResNet-50 of Table 7, frozen, on COCO; no row of the paper.

bash tools/dist_train.sh configs/mask_rcnn_loco_pr50_frozen.py
Other weights: --cfg-options backbone_file=FILE. Cost: not measured.
"""

_base_ = ["./_base_/mask_rcnn_pr50.py", "./_base_/coco_1x.py"]

method = "loco"
backbone_file = "work_dirs/loco_pr50/backbone.safetensors"  # of configs/pretrain/loco_pr50.py
