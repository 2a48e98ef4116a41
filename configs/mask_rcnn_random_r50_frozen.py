"""The floor under Table 2: a frozen random R-50 on COCO; no row of the paper.

bash tools/dist_train.sh configs/mask_rcnn_random_r50_frozen.py
Cost: not measured.
"""

_base_ = ["./_base_/mask_rcnn_r50.py", "./_base_/coco_1x.py"]

method = "random"
backbone_file = None
