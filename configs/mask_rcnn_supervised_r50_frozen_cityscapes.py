"""Table 2, row "Supervised", R-50, Cityscapes (AP^bb 33.2, AP 27.1).

bash tools/dist_train.sh configs/mask_rcnn_supervised_r50_frozen_cityscapes.py
Other weights: --cfg-options backbone_file=FILE. Cost: not measured.
"""

_base_ = ["./_base_/cityscapes.py"]

method = "supervised"
backbone_file = "backbones/supervised_resnet50.safetensors"
