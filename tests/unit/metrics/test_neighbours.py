"""Weighted nearest neighbours, against loops."""

import math

import numpy as np
import pytest

from simclrv2_tf.metrics import neighbours


@pytest.mark.parametrize("k", [1, 3, 20, 200])
def test_predictions_are_those_of_loops(k, monkeypatch):
    monkeypatch.setattr(neighbours, "_AT_ONCE", 7)
    rng = np.random.default_rng(k)
    bank, queries = rng.normal(size=(60, 4)), rng.normal(size=(25, 4))
    labels = rng.integers(0, 3, 60)
    found = neighbours.predict(bank, labels, queries, 3, k)
    assert found.shape == (25,)
    for query, prediction in zip(queries, found, strict=True):
        similarities = [
            float(query @ known / (np.linalg.norm(query) * np.linalg.norm(known))) for known in bank
        ]
        nearest = sorted(range(60), key=lambda place: -similarities[place])[:k]
        votes = [0.0] * 3
        for place in nearest:
            votes[labels[place]] += math.exp(similarities[place] / 0.07)
        assert prediction == votes.index(max(votes))


def test_separated_classes_are_told_apart_whatever_the_lengths():
    rng = np.random.default_rng(0)
    directions = np.eye(3)[rng.integers(0, 3, 90)] + 0.05 * rng.normal(size=(90, 3))
    labels = directions.argmax(1)
    scaled = directions * rng.uniform(0.1, 100, (90, 1))
    found = neighbours.predict(scaled[:60], labels[:60], scaled[60:], 3)
    np.testing.assert_array_equal(found, labels[60:])
    assert neighbours.predict(scaled, labels, np.zeros((0, 3)), 3).shape == (0,)
    assert neighbours.predict(scaled, labels, np.zeros((2, 3)), 3).shape == (2,)


@pytest.mark.parametrize("k", [1, 4, 29, 50])
def test_the_nearest_are_those_of_loops(k):
    rng = np.random.default_rng(k)
    given = rng.normal(size=(30, 5)) * rng.uniform(0.1, 10, (30, 1))
    unit = given / np.linalg.norm(given, axis=1, keepdims=True)
    found = neighbours.nearest(given, k)
    for place in range(30):
        others = [other for other in range(30) if other != place]
        expected = sorted(others, key=lambda other: -unit[place] @ unit[other])[:k]
        assert found[place].tolist() == expected
    assert neighbours.nearest(given[:1], k).shape == (1, 0)


@pytest.mark.parametrize(("count", "k"), [(30, 10), (5, 10), (2, 1)])
def test_the_share_that_a_map_keeps_is_that_of_loops(count, k):
    rng = np.random.default_rng(0)
    x, points = rng.normal(size=(count, 4)), rng.normal(size=(count, 2))
    kept = []
    for i in range(count):
        others = [j for j in range(count) if j != i]
        cosine = {j: x[i] @ x[j] / np.linalg.norm(x[i]) / np.linalg.norm(x[j]) for j in others}
        distance = {j: np.linalg.norm(points[i] - points[j]) for j in others}
        similar = set(sorted(others, key=lambda j: -cosine[j])[:k])
        near = set(sorted(others, key=lambda j: distance[j])[:k])
        kept.append(len(similar & near) / len(similar))
    assert neighbours.share_kept(x, points, k) == pytest.approx(np.mean(kept))
    assert neighbours.share_kept(x, x[:, :2], k) <= 1


def test_a_map_of_the_rows_themselves_keeps_all():
    angles = np.random.default_rng(0).uniform(0, 2 * np.pi, 40)
    x = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert neighbours.share_kept(x, x) == 1
    assert neighbours.share_kept(x[:1], x[:1]) == 1
