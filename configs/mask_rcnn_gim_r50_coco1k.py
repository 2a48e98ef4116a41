"""Table 3, row "GIM", COCO-1K (800 epochs: AP^bb 11.5, AP 11.7).

bash tools/dist_train.sh configs/mask_rcnn_gim_r50_coco1k.py
Another split, other weights: --cfg-options split=1 backbone_file=FILE. Cost: not measured.
"""

_base_ = ["./_base_/coco1k.py"]

method = "gim"
backbone_file = "work_dirs/gim_r50/backbone.safetensors"  # of configs/pretrain/gim_r50.py
