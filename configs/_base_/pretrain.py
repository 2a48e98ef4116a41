"""The paper's pretraining (section 5.1): 800 epochs of ImageNet-1K at batch 4096 with LARS.

Set by name: --cfg-options data_root=... epochs=... warmup_epochs=... global_batch_size=... seed=...
precision=..., and how a step is carried out: model.recompute=[res2] model.compile=[res2,res5]
model.channels_last=True model.micro_batch_size=256
"""

custom_imports = dict(
    imports=[
        "pretrain.model",
        "pretrain.images.two_views",
        "pretrain.images.unreadable",
        "pretrain.step.lars",
        "pretrain.step.precision",
        "pretrain.local_data_parallel",
        "pretrain.hooks",
        "pretrain.engine.checkpoint",
        "pretrain.engine.collapse",
        "pretrain.engine.finite",
        "pretrain.engine.pace",
        "pretrain.engine.watchdog",
    ]
)
default_scope = "mmengine"

data_root = "data/imagenet/train"
epochs = 800  # section 5.1; 100 in the ablations
warmup_epochs = 10  # section 5.1
global_batch_size = 4096  # section 5.1
precision = "float32"  # or bfloat16, float16
base_lr = 0.3  # for 256 images: 0.3 x 4096 / 256 = 4.8, section 5.1
seed = 0

protocol = dict(
    name="pretrain",
    states=dict(dataset="imagenet1k", images=1281167, epochs=(100, 800)),
)

model = dict(
    type="LocalContrastive",
    encoder="resnet50",
    decoder=dict(),  # what a config changes of its method's own, see pretrain/methods.py
    loss=dict(),  # the same
    data_preprocessor=dict(
        type="TwoViewPreprocessor", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    ),
)

train_dataloader = dict(
    num_workers=8,
    persistent_workers=True,
    drop_last=True,
    pin_memory=True,
    sampler=dict(type="EpochKeySampler"),  # the dataset seeds each sample by its key
    collate_fn=dict(type="default_collate"),
    dataset=dict(type="TwoViewImages", augmentation=dict(size=224, jitter=1.0, blur=True)),
)

optim_wrapper = dict(
    type="OptimWrapper",
    constructor="ExcludeBiasAndNorm",
    optimizer=dict(type="LARS", momentum=0.9, weight_decay=1e-6, eta=0.001),
)  # SimCLR

train_cfg = dict(type="ResumableLoop")
model_wrapper_cfg = dict(type="LocalDistributed")
sync_bn = "torch"  # norm statistics over the global batch, as in SimCLR

default_hooks = dict(
    logger=dict(type="LoggerHook", interval=10, ignore_last=False),
    spread=dict(type="EmbeddingSpread"),
    unreadable=dict(type="UnreadableImages"),
    finite=dict(type="FiniteNumbers"),
    pace=dict(type="Pace"),
    progress=dict(type="Progress"),
    checkpoint=dict(type="AtomicCheckpoint", interval=1, by_epoch=True, max_keep_ckpts=2),
)
custom_hooks = [
    dict(type="LossCurves", interval=10),
    dict(type="PretrainRecord"),
    dict(type="PlainCheckpoint"),
]
env_cfg = dict(dist_cfg=dict(backend="nccl"))
log_processor = dict(window_size=10)
