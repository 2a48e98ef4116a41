"""Table 4, row "Ours + 2-layer MLP"; the paper: 67.5 % top-1.

bash tools/pretrain.sh configs/ablations/table4_loco_2_layer_mlp.py
100 epochs, batch 4096; accuracy by linear probe. Cost: not measured.
"""

_base_ = ["../pretrain/loco_r50.py"]

epochs = 100
model = dict(decoder=dict(mlp_layers=4))
