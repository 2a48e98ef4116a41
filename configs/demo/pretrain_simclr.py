"""SimCLR on the drawn scenes, part of the demo.

bash tools/pretrain.sh configs/demo/pretrain_simclr.py --work-dir demo_out/runs/pretrain_simclr
"""

_base_ = ["../_base_/demo_pretrain.py"]

method = "simclr"
