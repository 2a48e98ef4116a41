"""Table 5, row "Sharing 2 blocks"; the paper: 65.3 % top-1.

bash tools/pretrain.sh configs/ablations/table5_2_blocks.py
100 epochs, batch 4096; accuracy by linear probe. Cost: not measured.
"""

_base_ = ["../pretrain/loco_r50.py"]

epochs = 100
model = dict(units="loco_2_blocks")
