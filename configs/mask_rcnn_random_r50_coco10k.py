"""Table 3, row "Random Init", COCO-10K (AP^bb 23.5, AP 22.0).

bash tools/dist_train.sh configs/mask_rcnn_random_r50_coco10k.py
Another split: --cfg-options split=1. Cost: not measured.
"""

_base_ = ["./_base_/coco10k.py"]

method = "random"
backbone_file = None
model = dict(backbone=dict(frozen_stages=0))  # section 5.3
protocol = dict(states=dict(frozen_stages=0))
