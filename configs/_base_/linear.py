"""The paper's linear evaluation (section 5.1): linear classifiers on a frozen encoder, ImageNet.

Set by name: --cfg-options backbone_file=... data_root=... epochs=... milestones=... image_size=...
resize=... cache_features=... stages=... k=... global_batch_size=... seed=...
"""

custom_imports = dict(
    imports=[
        "pretrain.readout.frozen_encoder",
        "pretrain.images.labelled_images",
        "pretrain.readout.linear_model",
        "pretrain.readout.linear_record",
        "pretrain.readout.stage_features",
        "pretrain.engine.checkpoint",
        "pretrain.engine.finite",
        "pretrain.engine.pace",
        "pretrain.engine.watchdog",
        "pretrain.step.data_parallel",
    ]
)
default_scope = "mmengine"

method = None  # as the backbone file says
encoder = None  # likewise
backbone_file = None
data_root = "data/imagenet"  # holds train/ and val/
epochs = 100  # section 5.1
milestones = [30, 60, 90]  # epochs after which lr falls by a factor of 10, section 5.1
global_batch_size = 256  # MoCo, whose procedure section 5.1 follows
base_lr = 30.0  # for 256 images, section 5.1
image_size = 224
resize = 256  # shorter side before the centre crop
cache_features = False  # True: train on features computed once, without augmentation
stages = "all"  # or "last", or names; the last stage's accuracy is Table 1's
k = 200  # neighbours of k-NN, Wu et al., 2018
temperature = 0.07  # of their votes, Wu et al., 2018
seed = 0

protocol = dict(
    name="linear",
    states=dict(dataset="imagenet1k", train_images=1281167, val_images=50000, classes=1000),
)

model = dict(type="LinearClassifiers", data_preprocessor=dict(type="FrozenEncoder"))
model_wrapper_cfg = dict(type="AnyDeviceDataParallel")

train_dataloader = dict(
    num_workers=8,
    sampler=dict(type="EpochKeySampler"),  # the dataset seeds each sample by its key
    collate_fn=dict(type="default_collate"),
)
val_dataloader = dict(
    num_workers=8,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="default_collate"),
)

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", momentum=0.0, weight_decay=0.0),  # section 5.1: without momentum
)

train_cfg = dict(type="ResumableLoop", val_interval=10)
val_cfg = dict()

default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50, ignore_last=False),
    checkpoint=dict(type="AtomicCheckpoint", interval=1, max_keep_ckpts=2),
    finite=dict(type="FiniteNumbers"),
    pace=dict(type="Pace"),
    progress=dict(type="Progress"),
)
custom_hooks = [dict(type="LinearRecord"), dict(type="PlainCheckpoint")]
env_cfg = dict(dist_cfg=dict(backend="nccl"))
log_processor = dict(window_size=10)
