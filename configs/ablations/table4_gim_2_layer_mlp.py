"""Table 4, row "2-layer MLP (two more layers), local"; the paper: 62.3 % top-1.

bash tools/pretrain.sh configs/ablations/table4_gim_2_layer_mlp.py
100 epochs, batch 4096; accuracy by linear probe. Cost: not measured.
"""

_base_ = ["../pretrain/gim_r50.py"]

epochs = 100
model = dict(decoder=dict(conv_blocks=0, mlp_layers=4))
