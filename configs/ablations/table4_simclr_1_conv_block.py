"""Table 4, row "1 conv block, not local"; the paper: 65.6 % top-1.

bash tools/pretrain.sh configs/ablations/table4_simclr_1_conv_block.py
100 epochs, batch 4096; accuracy by linear probe. Cost: not measured.
"""

_base_ = ["../pretrain/simclr_r50.py"]

epochs = 100
model = dict(decoder=dict(conv_blocks=1))
