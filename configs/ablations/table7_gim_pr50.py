"""Table 7, row "GIM, PResNet-50"; the paper: 52.6 % top-1, memory saving 4.56x.

bash tools/pretrain.sh configs/ablations/table7_gim_pr50.py
100 epochs, batch 4096; accuracy by linear probe. Cost: not measured.
"""

_base_ = ["../pretrain/gim_pr50.py"]
