"""Table 2, row "Ours", R-50, Cityscapes (800 epochs: AP^bb 34.2, AP 29.5).

bash tools/dist_train.sh configs/mask_rcnn_loco_r50_frozen_cityscapes.py
Other weights: --cfg-options backbone_file=FILE. Cost: not measured.
"""

_base_ = ["./_base_/cityscapes.py"]

method = "loco"
backbone_file = "work_dirs/loco_r50/backbone.safetensors"  # of configs/pretrain/loco_r50.py
