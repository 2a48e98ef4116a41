"""Top-1 and top-5 accuracy from the place of the true class among all classes."""

from torch import Tensor

TOP = (1, 5)


def true_class_ranks(scores: Tensor, labels: Tensor) -> Tensor:
    """How many other classes score as high as the true one, or higher.

    A tie counts against the classifier, and so does a score that is no number: constant scores
    give no accuracy above chance by accident.

    Args:
        scores: (N, classes).
        labels: int64 (N,).

    Returns:
        int64 (N,); 0 where the true class stands alone at the top.
    """
    true = scores.gather(1, labels[:, None])  # (N, 1)
    return (~(scores < true)).sum(dim=1) - 1


def accuracies(ranks: Tensor, classes: int) -> dict[str, float]:
    """``top1`` and ``top5`` in percent; no ``top5`` where five classes or fewer leave no miss."""
    return {
        f"top{k}": round(100 * float((ranks < k).double().mean()), 4) for k in TOP if k < classes
    }
