"""Table 2, row "Ours", R-50, COCO (800 epochs: AP^bb 34.5, AP 32.0).

bash tools/dist_train.sh configs/mask_rcnn_loco_r50_frozen.py
Other weights: --cfg-options backbone_file=FILE. Cost: not measured.
"""

_base_ = ["./_base_/mask_rcnn_r50.py", "./_base_/coco_1x.py"]

method = "loco"
backbone_file = "work_dirs/loco_r50/backbone.safetensors"  # of configs/pretrain/loco_r50.py
