"""Table 3, row "Supervised", COCO-1K (AP^bb 10.4, AP 10.1).

bash tools/dist_train.sh configs/mask_rcnn_supervised_r50_coco1k.py
Another split, other weights: --cfg-options split=1 backbone_file=FILE. Cost: not measured.
"""

_base_ = ["./_base_/coco1k.py"]

method = "supervised"
backbone_file = "backbones/supervised_resnet50.safetensors"
