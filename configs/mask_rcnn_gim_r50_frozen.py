"""Table 2, row "GIM", R-50, COCO (800 epochs: AP^bb 29.3, AP 27.0).

bash tools/dist_train.sh configs/mask_rcnn_gim_r50_frozen.py
Other weights: --cfg-options backbone_file=FILE. Cost: not measured.
"""

_base_ = ["./_base_/mask_rcnn_r50.py", "./_base_/coco_1x.py"]

method = "gim"
backbone_file = "work_dirs/gim_r50/backbone.safetensors"  # of configs/pretrain/gim_r50.py
