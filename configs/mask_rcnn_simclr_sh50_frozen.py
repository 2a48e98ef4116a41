"""Table 2, row "SimCLR", Sh-50, COCO (800 epochs: AP^bb 33.4, AP 30.9).

bash tools/dist_train.sh configs/mask_rcnn_simclr_sh50_frozen.py
Other weights: --cfg-options backbone_file=FILE. Cost: not measured.
"""

_base_ = ["./_base_/mask_rcnn_sh50.py", "./_base_/coco_1x.py"]

method = "simclr"
backbone_file = "work_dirs/simclr_sh50/backbone.safetensors"  # of configs/pretrain/simclr_sh50.py
