"""Confusion matrix, numbers of each class and intervals, against loops and their definitions."""

import math

import numpy as np
import pytest

from simclrv2_tf.metrics.classification import (
    confusion_counts,
    confusion_matrix,
    gain,
    paired_comparison,
    per_class,
    wilson,
)
from simclrv2_tf.predictions import Predictions


@pytest.mark.parametrize("successes, total", [(0, 1), (1, 1), (3, 10), (0, 50), (2000, 2000)])
def test_wilson_ends_are_where_the_score_test_is(successes, total):
    """An end p has |share - p| = z sqrt(p (1 - p) / n), or is 0 or 1."""
    share, low, high = wilson(successes, total)
    assert share == successes / total and 0 <= low <= share <= high <= 1
    for end in (low, high):
        distance = 1.959964 * math.sqrt(end * (1 - end) / total)
        assert abs(share - end) == pytest.approx(distance, abs=1e-9)
    assert low < high


def test_wilson_holds_the_share_whatever_the_total():
    for total in range(1, 300):
        for successes in (0, total // 2, total):
            share, low, high = wilson(successes, total)
            assert 0 <= low <= share <= high <= 1


def test_wilson_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    for truth in (0.5, 0.9, 0.99):
        found = [wilson(int(count), 200) for count in rng.binomial(200, truth, 2000)]
        covered = np.mean([low <= truth <= high for _, low, high in found])
        assert 0.92 < covered < 0.98


@pytest.mark.parametrize("successes, total", [(-1, 3), (4, 3), (0, 0)])
def test_numbers_out_of_range(successes, total):
    with pytest.raises(ValueError, match=f"Received: successes={successes}, total={total}"):
        wilson(successes, total)


@pytest.mark.parametrize("won, lost", [(0, 0), (1, 0), (4, 4), (3, 9), (9, 3), (40, 25)])
def test_a_comparison_is_of_the_images_on_which_they_differ(won, lost):
    """The p-value is the sum of all binomials that are no more likely."""
    pairs = [(1, 0)] * won + [(0, 1)] * lost + [(1, 1)] * 20 + [(0, 0)] * 7
    right, baseline = np.array(pairs, bool)[np.random.default_rng(0).permutation(len(pairs))].T
    gain, low, high, p_value = paired_comparison(right, baseline)
    assert gain == pytest.approx((won - lost) / len(pairs))
    assert -1 <= low < gain < high <= 1
    n = won + lost
    chances = [math.comb(n, k) / 2**n for k in range(n + 1)]
    assert p_value == pytest.approx(sum(c for c in chances if c <= chances[won] * (1 + 1e-9)))
    reverse = paired_comparison(baseline, right)
    assert reverse == pytest.approx((-gain, -high, -low, p_value))


@pytest.mark.parametrize("shares", [(0.02, 0.02), (0.1, 0.04)])
def test_the_interval_of_a_gain_covers_as_often_as_it_says(shares):
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(1000):
        drawn = rng.choice(3, 300, p=[*shares, 1 - sum(shares)])
        _, low, high, _ = paired_comparison(drawn == 0, drawn == 1)
        covered.append(low <= shares[0] - shares[1] <= high)
    assert 0.93 < np.mean(covered) < 0.98


@pytest.mark.parametrize("baseline", [[], [True], [[True, False]]])
def test_classifiers_compared_on_other_images(baseline):
    with pytest.raises(ValueError, match="`right` and `baseline` must be of the same images"):
        paired_comparison(np.array([True, False][: len(baseline) * 2]), np.array(baseline))


def predictions_of(ids, right):
    labels, confidence = np.zeros(len(ids), np.int64), np.ones(len(ids))
    names = np.array(list(ids), np.str_)
    return Predictions(names, labels, 1 - np.array(right), confidence, ("a", "b"))


def test_a_gain_is_of_the_same_images_alone():
    own, baseline = predictions_of("abc", [1, 1, 0]), predictions_of("abc", [0, 1, 0])
    assert gain(own, baseline) == paired_comparison(own.right, baseline.right)
    assert gain(own, baseline).gain == pytest.approx(1 / 3)
    nothing = predictions_of([], np.zeros(0, np.int64))
    for other in (None, nothing, predictions_of("abd", [0, 1, 0]), predictions_of("ab", [0, 1])):
        assert gain(own, other) is None and gain(other, own) is None
    assert gain(nothing, nothing) is None


def test_counts_by_class_are_those_of_loops():
    rng = np.random.default_rng(1)
    labels, predictions = rng.integers(0, 4, (2, 200))
    labels[labels == 3] = 0  # a class without images
    predictions[predictions == 2] = 1  # and one that is never predicted
    matrix = confusion_matrix(labels, predictions, 4)
    for row in range(4):
        for column in range(4):
            pairs = zip(labels, predictions, strict=True)
            assert matrix[row, column] == sum(pair == (row, column) for pair in pairs)
    pairs, counts = confusion_counts(labels, predictions, 4)
    assert pairs.tolist() == np.argwhere(matrix).tolist()
    assert counts.tolist() == matrix[matrix > 0].tolist()
    assert confusion_counts([], [], 4)[0].shape == (0, 2)
    rows = per_class(matrix, "abcd")
    for place, row in enumerate(rows):
        own, answered = labels == place, predictions == place
        hits = int(np.sum(own & answered))
        assert row["class"] == "abcd"[place] and row["images"] == own.sum()
        assert row["recall"] == (hits / own.sum() if own.any() else None)
        assert row["precision"] == (hits / answered.sum() if answered.any() else None)
        if row["recall"] and row["precision"]:
            harmonic = 2 / (1 / row["recall"] + 1 / row["precision"])
            assert row["f1"] == pytest.approx(harmonic)
    assert rows[3]["recall_low"] is None and rows[2]["f1"] == 0
    assert rows[0]["recall_low"] < rows[0]["recall"] < rows[0]["recall_high"]
