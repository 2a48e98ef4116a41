"""Table 3, row "SimCLR", COCO-1K (800 epochs: AP^bb 13.9, AP 14.1).

bash tools/dist_train.sh configs/mask_rcnn_simclr_r50_coco1k.py
Another split, other weights: --cfg-options split=1 backbone_file=FILE. Cost: not measured.
"""

_base_ = ["./_base_/coco1k.py"]

method = "simclr"
backbone_file = "work_dirs/simclr_r50/backbone.safetensors"  # of configs/pretrain/simclr_r50.py
