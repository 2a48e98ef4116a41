"""Table 2, row "GIM", R-50, Cityscapes (800 epochs: AP^bb 30.7, AP 26.0).

bash tools/dist_train.sh configs/mask_rcnn_gim_r50_frozen_cityscapes.py
Other weights: --cfg-options backbone_file=FILE. Cost: not measured.
"""

_base_ = ["./_base_/cityscapes.py"]

method = "gim"
backbone_file = "work_dirs/gim_r50/backbone.safetensors"  # of configs/pretrain/gim_r50.py
