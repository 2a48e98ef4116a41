"""Table 2, row "GIM", Sh-50, COCO (800 epochs: AP^bb 28.9, AP 26.9).

bash tools/dist_train.sh configs/mask_rcnn_gim_sh50_frozen.py
Other weights: --cfg-options backbone_file=FILE. Cost: not measured.
"""

_base_ = ["./_base_/mask_rcnn_sh50.py", "./_base_/coco_1x.py"]

method = "gim"
backbone_file = "work_dirs/gim_sh50/backbone.safetensors"  # of configs/pretrain/gim_sh50.py
