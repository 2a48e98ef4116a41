"""The demo's pretraining: drawn scenes, a narrow and shallow ResNet, minutes on two CPU cores."""

_base_ = ["./pretrain.py"]

data_root = "demo_out/data/coco/train2017"
epochs = 25
warmup_epochs = 2
global_batch_size = 32
base_lr = 4.0  # tuned on the drawn scenes; section 5.1 has 0.3 for ImageNet

protocol = dict(
    name="demo_pretrain",
    states=dict(_delete_=True, dataset="scenes_coco", images=400),
    open=("lr", "decoder", "loss", "temperature", "sharing"),
)

model = dict(encoder="resnet_tiny")
train_dataloader = dict(
    num_workers=1,
    pin_memory=False,
    dataset=dict(augmentation=dict(size=48, jitter=0.5, blur=False, min_area=0.2)),
)
default_hooks = dict(checkpoint=dict(interval=5))
custom_hooks = [
    dict(type="LossCurves", interval=2),
    dict(type="PretrainRecord"),
    dict(type="PlainCheckpoint"),
]
