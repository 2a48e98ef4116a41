"""Table 7, row "SimCLR, PResNet-50"; the paper: 66.8 % top-1, memory saving 1x.

bash tools/pretrain.sh configs/ablations/table7_simclr_pr50.py
100 epochs, batch 4096; accuracy by linear probe. Cost: not measured.
"""

_base_ = ["../pretrain/simclr_pr50.py"]
