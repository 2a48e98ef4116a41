"""The floor under Table 1: a linear classifier on a random ShuffleNet v2-50; no row of the paper.

bash tools/linear_probe.sh configs/linear/random_sh50.py
Cost: not measured.
"""

_base_ = ["../_base_/linear.py"]

method = "random"
encoder = "shufflenetv2_50"
