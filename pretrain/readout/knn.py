"""Weighted k-nearest-neighbour accuracy of frozen features (Wu et al., 2018, section 3.4).

A test image's neighbours vote for their classes with weight exp(cosine similarity / temperature).
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pretrain.readout.accuracy import true_class_ranks

NEIGHBOURS = 200  # Wu et al., 2018
TEMPERATURE = 0.07  # Wu et al., 2018
MAX_SIMILARITIES = 1 << 26  # held at a time: 256 MiB
MAX_PIECE = 1 << 14  # training images at a time


def check_vote(k: int, temperature: float) -> None:
    """Refuse a vote that nobody takes part in.

    Raises:
        ValueError: k is below 1, or the temperature not above 0.
    """
    if k < 1 or temperature <= 0:
        raise ValueError(f"k-NN with k={k}, temperature={temperature}; both must be above 0")


def knn_votes(
    train_features: np.ndarray,
    train_labels: Tensor,
    test_features: Tensor,
    classes: int,
    k: int = NEIGHBOURS,
    temperature: float = TEMPERATURE,
) -> Tensor:
    """The votes that each test image's neighbours give to each class.

    The training features are read a piece at a time, so they may be a file mapped into memory.

    Args:
        train_features: float32 (N, C).
        train_labels: int64 (N,).
        test_features: float32 (M, C), on the device that does the work.
        classes: how many there are.
        k: neighbours; all N where there are fewer.
        temperature: of the votes.

    Returns:
        (M, classes).

    Raises:
        ValueError: from :func:`check_vote`.
    """
    check_vote(k, temperature)
    device = test_features.device
    queries = F.normalize(test_features, dim=1)
    nearest = queries.new_empty(len(queries), 0)  # similarities of the k best so far
    voters = torch.empty(len(queries), 0, dtype=torch.int64, device=device)  # and their labels
    step = min(MAX_PIECE, max(1, MAX_SIMILARITIES // max(1, len(queries))))
    for start in range(0, len(train_features), step):
        piece = torch.from_numpy(np.array(train_features[start : start + step])).to(device)
        labels = train_labels[start : start + step].to(device).expand(len(queries), -1)
        similarities = torch.cat([nearest, queries @ F.normalize(piece, dim=1).T], dim=1)
        nearest, places = similarities.topk(min(k, similarities.shape[1]), dim=1)  # (M, k)
        voters = torch.cat([voters, labels], dim=1).gather(1, places)
    votes = queries.new_zeros(len(queries), classes)
    return votes.scatter_add_(1, voters, (nearest / temperature).exp())


def knn_ranks(
    train_features: np.ndarray,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    classes: int,
    k: int = NEIGHBOURS,
    temperature: float = TEMPERATURE,
) -> Tensor:
    """Place of every test image's true class in the vote, for :func:`accuracies`."""
    votes = knn_votes(train_features, train_labels, test_features, classes, k, temperature)
    return true_class_ranks(votes, test_labels.to(votes.device)).cpu()
