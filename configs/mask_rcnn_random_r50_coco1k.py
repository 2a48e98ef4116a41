"""Table 3, row "Random Init", COCO-1K (AP^bb 2.5, AP 2.5).

bash tools/dist_train.sh configs/mask_rcnn_random_r50_coco1k.py
Another split: --cfg-options split=1. Cost: not measured.
"""

_base_ = ["./_base_/coco1k.py"]

method = "random"
backbone_file = None
model = dict(backbone=dict(frozen_stages=0))  # section 5.3
protocol = dict(states=dict(frozen_stages=0))
