"""SimCLR: one unit over all stages, no extra conv block (section 5.4), ShuffleNet v2-50.

bash tools/pretrain.sh configs/pretrain/simclr_sh50.py
Gives the backbone of Table 1 and of the Sh-50 row in the 800-epoch block of Table 2; with
--cfg-options epochs=100 that of the 100-epoch block. Cost: not measured.
"""

_base_ = ["../_base_/pretrain.py"]

method = "simclr"
model = dict(encoder="shufflenetv2_50")
