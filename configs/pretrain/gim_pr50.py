"""Greedy InfoMax on SimCLR: a unit for each stage, PResNet-50.

bash tools/pretrain.sh configs/pretrain/gim_pr50.py
Gives the backbone of Table 7's row GIM. Cost: not measured.
"""

_base_ = ["../_base_/pretrain.py"]

method = "gim"
epochs = 100  # Table 7
model = dict(encoder="presnet50")
