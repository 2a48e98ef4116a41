"""The floor under Table 2: a frozen random R-50 on Cityscapes; no row of the paper.

bash tools/dist_train.sh configs/mask_rcnn_random_r50_frozen_cityscapes.py
Cost: not measured.
"""

_base_ = ["./_base_/cityscapes.py"]

method = "random"
backbone_file = None
