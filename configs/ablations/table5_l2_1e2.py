"""Table 5, row "L2 penalty (1e-2)"; the paper: 65.9 % top-1.

bash tools/pretrain.sh configs/ablations/table5_l2_1e2.py
100 epochs, batch 4096; accuracy by linear probe. Cost: not measured.
"""

_base_ = ["../pretrain/loco_r50.py"]

epochs = 100
model = dict(sharing=dict(l2=1e-2))
