"""Table 4, row "2 conv blocks, local"; the paper: 65.8 % top-1.

bash tools/pretrain.sh configs/ablations/table4_gim_2_conv_blocks.py
100 epochs, batch 4096; accuracy by linear probe. Cost: not measured.
"""

_base_ = ["../pretrain/gim_r50.py"]

epochs = 100
model = dict(decoder=dict(conv_blocks=2))
