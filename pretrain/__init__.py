"""Local contrastive pretraining: SimCLR, Greedy InfoMax and LoCo as three layouts of one model.

Images go in, a backbone file (:mod:`pretrain.backbone_file`) comes out. Nothing here
knows of mmdetection.
"""
