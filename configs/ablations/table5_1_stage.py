"""Table 5, row "Sharing 1 stage"; the paper: 66.2 % top-1.

bash tools/pretrain.sh configs/ablations/table5_1_stage.py
100 epochs, batch 4096; accuracy by linear probe. Cost: not measured.
"""

_base_ = ["../pretrain/loco_r50.py"]

epochs = 100
