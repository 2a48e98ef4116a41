"""Table 2, row "Supervised", R-50, COCO (AP^bb 33.9, AP 31.3).

bash tools/dist_train.sh configs/mask_rcnn_supervised_r50_frozen.py
Other weights: --cfg-options backbone_file=FILE. Cost: not measured.
"""

_base_ = ["./_base_/mask_rcnn_r50.py", "./_base_/coco_1x.py"]

method = "supervised"
backbone_file = "backbones/supervised_resnet50.safetensors"
