"""Table 2, row "SimCLR", Sh-50, Cityscapes (800 epochs: AP^bb 33.9, AP 28.7).

bash tools/dist_train.sh configs/mask_rcnn_simclr_sh50_frozen_cityscapes.py
Other weights: --cfg-options backbone_file=FILE. Cost: not measured.
"""

_base_ = ["./_base_/cityscapes_sh50.py"]

method = "simclr"
backbone_file = "work_dirs/simclr_sh50/backbone.safetensors"  # of configs/pretrain/simclr_sh50.py
