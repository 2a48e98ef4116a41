"""Table 1, row "SimCLR", ResNet-50 (Acc. 69.8).

bash tools/linear_probe.sh configs/linear/simclr_r50.py
Other weights: --cfg-options backbone_file=FILE. Cost: not measured.
"""

_base_ = ["../_base_/linear.py"]

method = "simclr"
encoder = "resnet50"
backbone_file = "work_dirs/simclr_r50/backbone.safetensors"  # of configs/pretrain/simclr_r50.py
