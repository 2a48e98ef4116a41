"""SimCLR: one unit over all stages, no extra conv block (section 5.4), PResNet-50.

bash tools/pretrain.sh configs/pretrain/simclr_pr50.py
Gives the backbone of Table 7's row SimCLR. Cost: not measured.
"""

_base_ = ["../_base_/pretrain.py"]

method = "simclr"
epochs = 100  # Table 7
model = dict(encoder="presnet50")
