"""Table 4, row "1 conv block (w/o ds), local"; the paper: 63.6 % top-1.

bash tools/pretrain.sh configs/ablations/table4_gim_1_conv_block_without_downsampling.py
100 epochs, batch 4096; accuracy by linear probe. Cost: not measured.
"""

_base_ = ["../pretrain/gim_r50.py"]

epochs = 100
model = dict(decoder=dict(downsample=False))
