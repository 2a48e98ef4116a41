"""Table 2, row "SimCLR", R-50, COCO (800 epochs: AP^bb 34.8, AP 32.2).

bash tools/dist_train.sh configs/mask_rcnn_simclr_r50_frozen.py
Other weights: --cfg-options backbone_file=FILE. Cost: not measured.
"""

_base_ = ["./_base_/mask_rcnn_r50.py", "./_base_/coco_1x.py"]

method = "simclr"
backbone_file = "work_dirs/simclr_r50/backbone.safetensors"  # of configs/pretrain/simclr_r50.py
