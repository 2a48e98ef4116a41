"""Table 1, row "LoCo", ResNet-50 (Acc. 69.5).

bash tools/linear_probe.sh configs/linear/loco_r50.py
Other weights: --cfg-options backbone_file=FILE. Cost: not measured.
"""

_base_ = ["../_base_/linear.py"]

method = "loco"
encoder = "resnet50"
backbone_file = "work_dirs/loco_r50/backbone.safetensors"  # of configs/pretrain/loco_r50.py
