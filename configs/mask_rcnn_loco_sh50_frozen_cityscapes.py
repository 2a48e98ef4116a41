"""Table 2, row "Ours", Sh-50, Cityscapes (800 epochs: AP^bb 33.0, AP 28.1).

bash tools/dist_train.sh configs/mask_rcnn_loco_sh50_frozen_cityscapes.py
Other weights: --cfg-options backbone_file=FILE. Cost: not measured.
"""

_base_ = ["./_base_/cityscapes_sh50.py"]

method = "loco"
backbone_file = "work_dirs/loco_sh50/backbone.safetensors"  # of configs/pretrain/loco_sh50.py
