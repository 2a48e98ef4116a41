"""Table 3, row "GIM", COCO-10K (800 epochs: AP^bb 24.4, AP 22.4).

bash tools/dist_train.sh configs/mask_rcnn_gim_r50_coco10k.py
Another split, other weights: --cfg-options split=1 backbone_file=FILE. Cost: not measured.
"""

_base_ = ["./_base_/coco10k.py"]

method = "gim"
backbone_file = "work_dirs/gim_r50/backbone.safetensors"  # of configs/pretrain/gim_r50.py
