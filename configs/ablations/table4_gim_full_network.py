"""Table 4, row "full network, local"; the paper: 65.8 % top-1.

bash tools/pretrain.sh configs/ablations/table4_gim_full_network.py
100 epochs, batch 4096; accuracy by linear probe. Cost: not measured.
"""

_base_ = ["../pretrain/gim_r50.py"]

epochs = 100
model = dict(decoder=dict(conv_blocks=0, further_stages=3))
