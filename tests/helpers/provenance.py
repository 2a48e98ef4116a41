"""Where the weights of a test are from."""

from pretrain.backbone_file import IMAGENET_MEAN, IMAGENET_STD, Provenance


def provenance(encoder="resnet_tiny", method="loco"):
    return Provenance(
        method=method, encoder=encoder, epochs=3, dataset="drawn", dataset_fingerprint="f" * 64,
        deviations=(), config_hash="c" * 64, git_commit="abc", seed=7,
        mean=IMAGENET_MEAN, std=IMAGENET_STD,
    )  # fmt: skip
