"""Linear classifiers and k-NN on the demo's frozen backbones: the shapes cut out of the scenes.

bash tools/linear_probe.sh configs/demo/linear.py --work-dir demo_out/runs/linear_pretrain_loco \
    --cfg-options backbone_file=demo_out/runs/pretrain_loco/backbone.safetensors
"""

_base_ = ["../_base_/linear.py"]

data_root = "demo_out/data/shapes"
epochs = 10
milestones = [6, 8]
image_size = 48
resize = 48
k = 20
cache_features = True
protocol = dict(
    name="demo_linear",
    states=dict(
        _delete_=True,
        dataset="scenes_shapes",
        train_images=1558,
        val_images=230,
        classes=5,
    ),
    open=("milestones", "lr", "momentum", "weight_decay", "train_transform", "test_transform"),
)
train_dataloader = dict(num_workers=0)
val_dataloader = dict(num_workers=0)
