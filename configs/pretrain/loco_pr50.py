"""LoCo: a unit for each pair of neighbouring stages, PResNet-50.

bash tools/pretrain.sh configs/pretrain/loco_pr50.py
Gives the backbone of Table 7's row LoCo. Cost: not measured.
"""

_base_ = ["../_base_/pretrain.py"]

method = "loco"
epochs = 100  # Table 7
model = dict(encoder="presnet50")
