"""Table 1, row "GIM", ShuffleNet v2-50 (Acc. 63.5).

bash tools/linear_probe.sh configs/linear/gim_sh50.py
Other weights: --cfg-options backbone_file=FILE. Cost: not measured.
"""

_base_ = ["../_base_/linear.py"]

method = "gim"
encoder = "shufflenetv2_50"
backbone_file = "work_dirs/gim_sh50/backbone.safetensors"  # of configs/pretrain/gim_sh50.py
