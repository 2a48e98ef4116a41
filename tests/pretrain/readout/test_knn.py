"""k-NN and top-k accuracy against loops by hand and scikit-learn."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import top_k_accuracy_score
from sklearn.neighbors import KNeighborsClassifier

from pretrain.readout import knn
from pretrain.readout.accuracy import accuracies, true_class_ranks
from pretrain.readout.knn import knn_ranks, knn_votes

CLASSES = 7


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    train = random.normal(size=(120, 16)).astype(np.float32)
    test = random.normal(size=(50, 16)).astype(np.float32)
    return train, random.integers(CLASSES, size=120), test, random.integers(CLASSES, size=50)


def votes(data, k, temperature=0.07):
    train, labels, test, _ = data
    return knn_votes(
        train, torch.tensor(labels), torch.tensor(test), CLASSES, k, temperature
    ).numpy()


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (5, 0.07), (20, 0.5)])
def test_votes_are_those_of_a_double_loop(data, k, temperature):
    train, labels, test, _ = data
    expected = np.zeros((len(test), CLASSES))
    for i, query in enumerate(test):
        cosines = []
        for j, key in enumerate(train):
            dot = sum(float(a) * float(b) for a, b in zip(query, key, strict=True))
            norms = math.sqrt(sum(float(a) ** 2 for a in query) * sum(float(b) ** 2 for b in key))
            cosines.append((dot / norms, int(labels[j])))
        for cosine, label in sorted(cosines, reverse=True)[:k]:
            expected[i, label] += math.exp(cosine / temperature)
    np.testing.assert_allclose(votes(data, k, temperature), expected, rtol=1e-4)


def test_predictions_are_scikit_learns(data):
    train, labels, test, truth = data
    theirs = KNeighborsClassifier(
        n_neighbors=20, metric="cosine", weights=lambda distances: np.exp((1 - distances) / 0.07)
    ).fit(train, labels)
    ours = votes(data, k=20)
    assert (ours.argmax(axis=1) == theirs.predict(test)).all()
    np.testing.assert_allclose(
        ours / ours.sum(axis=1, keepdims=True), theirs.predict_proba(test), atol=1e-5
    )
    ranks = knn_ranks(
        train, torch.tensor(labels), torch.tensor(test), torch.tensor(truth), CLASSES, 20
    )
    expected = 100 * np.mean(theirs.predict(test) == truth)
    assert accuracies(ranks, CLASSES)["top1"] == pytest.approx(expected)


def test_pieces_change_nothing_and_k_is_bounded_by_the_training_images(data, monkeypatch):
    whole, everyone = votes(data, k=9), votes(data, k=120)
    monkeypatch.setattr(knn, "MAX_PIECE", 7)
    np.testing.assert_allclose(votes(data, k=9), whole, rtol=1e-5)
    np.testing.assert_allclose(votes(data, k=200), everyone, rtol=1e-4)


@pytest.mark.parametrize(("k", "temperature"), [(0, 0.07), (5, 0.0)])
def test_no_neighbours_or_no_temperature_is_refused(data, k, temperature):
    with pytest.raises(ValueError, match="must be above 0"):
        votes(data, k, temperature)


def test_ranks_by_hand_ties_and_nan_count_against():
    scores = torch.tensor([[1.0, 3.0, 2.0], [1.0, 3.0, 2.0], [5.0, 5.0, 5.0], [0.0, 1.0, 1.0]])
    assert true_class_ranks(scores, torch.tensor([1, 0, 0, 2])).tolist() == [0, 2, 2, 1]
    assert true_class_ranks(torch.full((1, 3), math.nan), torch.tensor([1])).tolist() == [2]


def test_top_1_and_top_5_by_hand_and_by_scikit_learn():
    ranks = torch.tensor([0, 0, 1, 4, 5, 9, 3, 0])  # 3 of 8 first, 6 of 8 among five
    assert accuracies(ranks, 10) == {"top1": 37.5, "top5": 75.0}
    assert accuracies(ranks, 5) == {"top1": 37.5}, "of five classes, five leave no miss"
    random = np.random.default_rng(1)
    scores, labels = random.normal(size=(200, 10)), random.integers(10, size=200)
    found = accuracies(true_class_ranks(torch.tensor(scores), torch.tensor(labels)), 10)
    for k in (1, 5):
        expected = 100 * top_k_accuracy_score(labels, scores, k=k, labels=range(10))
        assert found[f"top{k}"] == pytest.approx(expected)
