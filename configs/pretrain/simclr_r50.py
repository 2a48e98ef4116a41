"""SimCLR: one unit over all stages, no extra conv block (section 5.4), ResNet-50.

bash tools/pretrain.sh configs/pretrain/simclr_r50.py
Gives the backbone of Table 1 and of the 800-epoch block of Tables 2 and 3; with
--cfg-options epochs=100 that of the 100-epoch block. Cost: not measured.
"""

_base_ = ["../_base_/pretrain.py"]

method = "simclr"
