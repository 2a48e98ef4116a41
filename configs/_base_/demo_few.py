"""The demo's Table 3: a few of the drawn scenes, the backbone fine-tuned but for stem and res2.

Set by name: --cfg-options split=0 method=... backbone_file=...
"""

_base_ = ["./demo_mask_rcnn.py", "./demo_coco.py"]

method = "random"
backbone_file = None
split = 0  # the seed that it was drawn with
split_size = 100
max_epochs = 8
protocol = dict(
    name="demo_finetuned",
    states=dict(
        dataset="scenes100",
        train_images=100,
        drawn_from_images=400,
        split=(0, 1, 2),
        frozen_stages=1,  # 0 for a random initialisation, which has nothing to keep
    ),
)

model = dict(backbone=dict(frozen_stages=1))
train_dataloader = dict(
    dataset=dict(ann_file="annotations/instances_train2017_100_seed{split}.json")
)
train_cfg = dict(val_interval=8)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=10),
    dict(type="MultiStepLR", by_epoch=True, milestones=[6], gamma=0.1),
]
