"""Table 5, row "No sharing"; the paper: 65.1 % top-1.

bash tools/pretrain.sh configs/ablations/table5_no_sharing.py
100 epochs, batch 4096; accuracy by linear probe. Cost: not measured.
"""

_base_ = ["../pretrain/gim_r50.py"]

epochs = 100
