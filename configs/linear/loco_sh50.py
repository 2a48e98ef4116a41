"""Table 1, row "LoCo", ShuffleNet v2-50 (Acc. 69.3).

bash tools/linear_probe.sh configs/linear/loco_sh50.py
Other weights: --cfg-options backbone_file=FILE. Cost: not measured.
"""

_base_ = ["../_base_/linear.py"]

method = "loco"
encoder = "shufflenetv2_50"
backbone_file = "work_dirs/loco_sh50/backbone.safetensors"  # of configs/pretrain/loco_sh50.py
