"""Table 1, row "SimCLR", ShuffleNet v2-50 (Acc. 69.1).

bash tools/linear_probe.sh configs/linear/simclr_sh50.py
Other weights: --cfg-options backbone_file=FILE. Cost: not measured.
"""

_base_ = ["../_base_/linear.py"]

method = "simclr"
encoder = "shufflenetv2_50"
backbone_file = "work_dirs/simclr_sh50/backbone.safetensors"  # of configs/pretrain/simclr_sh50.py
