"""Table 3, row "Ours", COCO-1K (800 epochs: AP^bb 13.9, AP 13.8).

bash tools/dist_train.sh configs/mask_rcnn_loco_r50_coco1k.py
Another split, other weights: --cfg-options split=1 backbone_file=FILE. Cost: not measured.
"""

_base_ = ["./_base_/coco1k.py"]

method = "loco"
backbone_file = "work_dirs/loco_r50/backbone.safetensors"  # of configs/pretrain/loco_r50.py
