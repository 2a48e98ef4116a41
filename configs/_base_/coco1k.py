"""Mask R-CNN fine-tuned on COCO-1K: 1,000 images of train2017, 15k iterations (section 5.3).

First, for each split: python -m transfer.splits data/coco/annotations/instances_train2017.json
--size 1000 --seed 0 --out data/coco/annotations/instances_train2017_1k_seed0.json

All that the paper leaves open is as in ./coco10k.py.
"""

_base_ = ["./coco10k.py"]

split_size = 1000
max_iters = 15000
protocol = dict(name="finetuned_15k", states=dict(dataset="coco1k", train_images=1000))
train_dataloader = dict(
    dataset=dict(ann_file="annotations/instances_train2017_1k_seed{split}.json")
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type="MultiStepLR", by_epoch=False, milestones=[10000, 13333], gamma=0.1),
]
train_cfg = dict(val_interval=100)
