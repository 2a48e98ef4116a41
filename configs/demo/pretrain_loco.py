"""LoCo on the drawn scenes, part of the demo.

bash tools/pretrain.sh configs/demo/pretrain_loco.py --work-dir demo_out/runs/pretrain_loco
"""

_base_ = ["../_base_/demo_pretrain.py"]

method = "loco"
