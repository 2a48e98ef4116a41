"""Mask R-CNN on the demo's frozen random backbone, drawn scenes in COCO's format.

bash tools/dist_train.sh configs/demo/mask_rcnn_random.py
"""

_base_ = ["../_base_/demo_mask_rcnn.py", "../_base_/demo_coco.py"]

method = "random"
backbone_file = None
