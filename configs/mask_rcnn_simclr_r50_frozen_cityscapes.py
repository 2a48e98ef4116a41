"""Table 2, row "SimCLR", R-50, Cityscapes (800 epochs: AP^bb 34.8, AP 30.1).

bash tools/dist_train.sh configs/mask_rcnn_simclr_r50_frozen_cityscapes.py
Other weights: --cfg-options backbone_file=FILE. Cost: not measured.
"""

_base_ = ["./_base_/cityscapes.py"]

method = "simclr"
backbone_file = "work_dirs/simclr_r50/backbone.safetensors"  # of configs/pretrain/simclr_r50.py
