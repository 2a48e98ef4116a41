"""Table 4, row "2-layer MLP (two more layers), not local"; the paper: 67.1 % top-1.

bash tools/pretrain.sh configs/ablations/table4_simclr_2_layer_mlp.py
100 epochs, batch 4096; accuracy by linear probe. Cost: not measured.
"""

_base_ = ["../pretrain/simclr_r50.py"]

epochs = 100
model = dict(decoder=dict(mlp_layers=4))
