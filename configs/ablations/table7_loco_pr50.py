"""Table 7, row "LoCo, PResNet-50"; the paper: 66.6 % top-1, memory saving 2.76x.

bash tools/pretrain.sh configs/ablations/table7_loco_pr50.py
100 epochs, batch 4096; accuracy by linear probe. Cost: not measured.
"""

_base_ = ["../pretrain/loco_pr50.py"]
