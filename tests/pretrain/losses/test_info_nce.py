"""InfoNCE against Eq. 1 written as a double loop."""

import math

import pytest
import torch

from pretrain.losses.info_nce import info_nce


def double_loop(embeddings, temperature):
    rows = embeddings.shape[0]
    unit = [row / math.sqrt(sum(float(v) ** 2 for v in row)) for row in embeddings]
    total = 0.0
    for q in range(rows):
        positive = (q + rows // 2) % rows
        scores = {
            k: math.exp(float(unit[q] @ unit[k]) / temperature) for k in range(rows) if k != q
        }
        negatives = sum(score for k, score in scores.items() if k != positive)
        total -= math.log(scores[positive] / (scores[positive] + negatives))
    return total / rows


@pytest.mark.parametrize("temperature", [0.1, 0.5])
@pytest.mark.parametrize("images", [2, 5])
def test_equals_the_double_loop(images, temperature):
    embeddings = torch.randn(2 * images, 7, dtype=torch.float64)
    found = float(info_nce(embeddings, temperature))
    assert found == pytest.approx(double_loop(embeddings, temperature), rel=1e-12)


def test_worked_by_hand():
    """Two images, views equal, images orthogonal: -log(e^2 / (e^2 + 2)) at temperature 0.5."""
    embeddings = torch.tensor([[1.0, 0], [0, 3], [2, 0], [0, 1]], dtype=torch.float64)
    assert float(info_nce(embeddings, 0.5)) == pytest.approx(math.log(1 + 2 * math.exp(-2)))


def test_low_precision_is_summed_in_float32():
    embeddings = torch.randn(8, 16).bfloat16()
    assert info_nce(embeddings, 0.1).dtype == torch.float32


def test_bad_shapes_are_refused():
    with pytest.raises(ValueError, match="odd number of rows: 3"):
        info_nce(torch.randn(3, 4), 0.1)
    with pytest.raises(ValueError, match="no negatives"):
        info_nce(torch.randn(2, 4), 0.1)
