"""Greedy InfoMax on the drawn scenes, part of the demo.

bash tools/pretrain.sh configs/demo/pretrain_gim.py --work-dir demo_out/runs/pretrain_gim
"""

_base_ = ["../_base_/demo_pretrain.py"]

method = "gim"
