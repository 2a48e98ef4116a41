"""Table 2, row "Ours", Sh-50, COCO (800 epochs: AP^bb 33.6, AP 31.2).

bash tools/dist_train.sh configs/mask_rcnn_loco_sh50_frozen.py
Other weights: --cfg-options backbone_file=FILE. Cost: not measured.
"""

_base_ = ["./_base_/mask_rcnn_sh50.py", "./_base_/coco_1x.py"]

method = "loco"
backbone_file = "work_dirs/loco_sh50/backbone.safetensors"  # of configs/pretrain/loco_sh50.py
