"""Table 1, row "GIM", ResNet-50 (Acc. 64.7).

bash tools/linear_probe.sh configs/linear/gim_r50.py
Other weights: --cfg-options backbone_file=FILE. Cost: not measured.
"""

_base_ = ["../_base_/linear.py"]

method = "gim"
encoder = "resnet50"
backbone_file = "work_dirs/gim_r50/backbone.safetensors"  # of configs/pretrain/gim_r50.py
