"""SimCLR on CIFAR-10, ResNet-50 with the stem for small images; no row of the paper.

bash tools/pretrain.sh configs/pretrain/simclr_cifar10.py
Cost: not measured.
"""

_base_ = ["../_base_/pretrain_cifar10.py"]

method = "simclr"
