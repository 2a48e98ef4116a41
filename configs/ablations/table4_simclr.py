"""Table 4, row "no extra layers, not local"; the paper: 65.7 % top-1.

bash tools/pretrain.sh configs/ablations/table4_simclr.py
100 epochs, batch 4096; accuracy by linear probe. Cost: not measured.
"""

_base_ = ["../pretrain/simclr_r50.py"]

epochs = 100
