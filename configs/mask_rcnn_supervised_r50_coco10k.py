"""Table 3, row "Supervised", COCO-10K (AP^bb 26.0, AP 23.8).

bash tools/dist_train.sh configs/mask_rcnn_supervised_r50_coco10k.py
Another split, other weights: --cfg-options split=1 backbone_file=FILE. Cost: not measured.
"""

_base_ = ["./_base_/coco10k.py"]

method = "supervised"
backbone_file = "backbones/supervised_resnet50.safetensors"
