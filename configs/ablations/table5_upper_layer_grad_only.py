"""Table 5, row "Upper layer grad only"; the paper: 65.3 % top-1.

bash tools/pretrain.sh configs/ablations/table5_upper_layer_grad_only.py
100 epochs, batch 4096; accuracy by linear probe. Cost: not measured.
"""

_base_ = ["../pretrain/loco_r50.py"]

epochs = 100
model = dict(sharing=dict(upper_gradient_only=True))
