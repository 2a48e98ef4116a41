"""Linear classifiers on a frozen encoder's features, one a stage, trained at once (section 5.1)."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import METRICS, MODELS
from torch import Tensor, nn

from pretrain.readout.accuracy import accuracies, true_class_ranks


@MODELS.register_module()
class LinearClassifiers(BaseModel):
    """One ``nn.Linear`` for each stage of the frozen encoder that is its data preprocessor.

    The classifiers share images and nothing else: the gradient of the summed loss is each one's
    own, so training them together gives what training each alone would.

    Args:
        classes: how many there are.
        data_preprocessor: config of a :class:`pretrain.readout.frozen_encoder.FrozenEncoder`.
    """

    def __init__(self, classes: int, data_preprocessor: dict[str, Any]) -> None:
        super().__init__(data_preprocessor)
        self.classes = classes
        channels = self.data_preprocessor.channels
        self.classifiers = nn.ModuleDict(
            {stage: linear_classifier(width, classes) for stage, width in channels.items()}
        )

    def forward(
        self, features: dict[str, Tensor], label: Tensor, mode: str = "tensor"
    ) -> dict[str, Tensor] | Tensor:
        """Args:
            features: of each stage, (N, C).
            label: int64 (N,).
            mode: what is wanted.

        Returns:
            ``tensor``: logits of each stage, (N, classes); ``loss``: ``loss_<stage>``, in nats;
            ``predict``: the true class's rank (:func:`true_class_ranks`), (N, stages).
        """
        logits = {stage: self.classifiers[stage](features[stage]) for stage in features}
        if mode == "loss":
            return {f"loss_{stage}": F.cross_entropy(x, label) for stage, x in logits.items()}
        if mode == "predict":
            return torch.stack([true_class_ranks(x, label) for x in logits.values()], dim=1)
        return logits


def linear_classifier(channels: int, classes: int) -> nn.Linear:
    """Weights from N(0, 0.01), biases 0: MoCo's, whose procedure the paper follows."""
    classifier = nn.Linear(channels, classes)
    nn.init.normal_(classifier.weight, std=0.01)
    nn.init.zeros_(classifier.bias)
    return classifier


@METRICS.register_module()
class StageAccuracy(BaseMetric):
    """Top-1 and top-5 of every stage's classifier over a whole split, each image counted once.

    Args:
        stages: names, in the model's order; the last one's figures also stand without a suffix.
        classes: how many there are.
    """

    def __init__(self, stages: Sequence[str], classes: int) -> None:
        super().__init__(collect_device="gpu")  # mmengine's word for the process group
        self.stages, self.classes = tuple(stages), classes

    def process(self, data_batch: Any, data_samples: Sequence[Tensor]) -> None:
        """Keep each image's ranks, one a stage."""
        self.results.extend(tuple(ranks.tolist()) for ranks in data_samples)

    def compute_metrics(self, results: list[tuple[int, ...]]) -> dict[str, float]:
        """``top1_<stage>``, ``top5_<stage>``; ``top1``, ``top5``: percent."""
        return stage_metrics(
            dict(zip(self.stages, torch.tensor(results).T, strict=True)), self.classes
        )


def stage_metrics(ranks: dict[str, Tensor], classes: int, prefix: str = "") -> dict[str, float]:
    """Accuracies of every stage by name, and the last one's again without a suffix.

    Args:
        ranks: of each stage, (N,), from the image up.
        classes: how many there are.
        prefix: of every name, e.g. ``knn_``.
    """
    found = {}
    for stage, places in ranks.items():
        of_stage = accuracies(places, classes)
        found.update({f"{prefix}{name}_{stage}": value for name, value in of_stage.items()})
    return found | {f"{prefix}{name}": value for name, value in of_stage.items()}
