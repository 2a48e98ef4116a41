"""Mask R-CNN fine-tuned on 20 drawn scenes, the demo's place of COCO-1K in Table 3.

bash tools/dist_train.sh configs/demo/mask_rcnn_scenes20.py --cfg-options split=1 \
    method=loco backbone_file=demo_out/runs/pretrain_loco/backbone.safetensors
"""

_base_ = ["../_base_/demo_few.py"]

split_size = 20
max_epochs = 30
protocol = dict(states=dict(dataset="scenes20", train_images=20, epochs=30))
train_dataloader = dict(
    dataset=dict(ann_file="annotations/instances_train2017_20_seed{split}.json")
)
train_cfg = dict(val_interval=30)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=10),
    dict(type="MultiStepLR", by_epoch=True, milestones=[20], gamma=0.1),
]
