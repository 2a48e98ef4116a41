"""Pretraining on CIFAR-10: SimCLR's settings for small images (Chen et al., 2020, appendix B.9).

A readout of the methods; no row of the paper. Images in class folders under data/cifar10/train.
"""

_base_ = ["./pretrain.py"]

data_root = "data/cifar10/train"
epochs = 100
global_batch_size = 512
base_lr = 1.0  # for 256 images; appendix B.9 tries 0.5 to 1.5

protocol = dict(
    name="pretrain_cifar10",
    states=dict(_delete_=True, dataset="cifar10", images=50000),
    open=("epochs", "lr", "decoder", "sharing"),
)

model = dict(encoder="resnet50_small_images", loss=dict(temperature=0.5))  # appendix B.9
train_dataloader = dict(
    dataset=dict(augmentation=dict(size=32, jitter=0.5, blur=False))  # appendix B.9
)
