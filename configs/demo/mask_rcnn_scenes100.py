"""Mask R-CNN fine-tuned on 100 drawn scenes, the demo's place of COCO-10K in Table 3.

bash tools/dist_train.sh configs/demo/mask_rcnn_scenes100.py --cfg-options split=1 \
    method=loco backbone_file=demo_out/runs/pretrain_loco/backbone.safetensors
"""

_base_ = ["../_base_/demo_few.py"]
