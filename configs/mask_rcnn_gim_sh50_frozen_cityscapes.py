"""Table 2, row "GIM", Sh-50, Cityscapes (800 epochs: AP^bb 29.6, AP 23.9).

bash tools/dist_train.sh configs/mask_rcnn_gim_sh50_frozen_cityscapes.py
Other weights: --cfg-options backbone_file=FILE. Cost: not measured.
"""

_base_ = ["./_base_/cityscapes_sh50.py"]

method = "gim"
backbone_file = "work_dirs/gim_sh50/backbone.safetensors"  # of configs/pretrain/gim_sh50.py
