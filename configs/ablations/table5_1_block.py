"""Table 5, row "Sharing 1 block"; the paper: 64.8 % top-1.

bash tools/pretrain.sh configs/ablations/table5_1_block.py
100 epochs, batch 4096; accuracy by linear probe. Cost: not measured.
"""

_base_ = ["../pretrain/loco_r50.py"]

epochs = 100
model = dict(units="loco_1_block")
