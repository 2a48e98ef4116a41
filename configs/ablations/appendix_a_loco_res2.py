"""Appendix A, Fig. 2: LoCo with a loss at res2; the paper: no accuracy given.

bash tools/pretrain.sh configs/ablations/appendix_a_loco_res2.py
100 epochs, batch 4096; accuracy by linear probe. Cost: not measured.
"""

_base_ = ["../pretrain/loco_r50.py"]

epochs = 100
model = dict(units="loco_res2")
