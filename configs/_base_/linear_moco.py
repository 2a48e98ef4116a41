"""MoCo's linear evaluation as its code does it: momentum 0.9 and lr drops at 60 and 80.

The paper says "the same procedure done in [MoCo]" and means ./linear.py by it, without momentum and
with drops at 30, 60 and 90; the results of this one stand in a table of their own.
"""

_base_ = ["./linear.py"]

milestones = [60, 80]
protocol = dict(name="linear_moco")
optim_wrapper = dict(optimizer=dict(momentum=0.9))
