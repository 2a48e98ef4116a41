"""Supervised ResNet-50 read out as Table 1 reads out the others; no row of the paper.

bash tools/linear_probe.sh configs/linear/supervised_r50.py
Other weights: --cfg-options backbone_file=FILE. Cost: not measured.
"""

_base_ = ["../_base_/linear.py"]

method = "supervised"
encoder = "resnet50"
backbone_file = "backbones/supervised_resnet50.safetensors"
