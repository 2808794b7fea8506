"""Statistics of a classifier's answers, in NumPy: confusion matrix, classes, intervals."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from simclrv2_tf.predictions import Predictions


class Interval(NamedTuple):
    """A share with its confidence interval, all in [0, 1]."""

    share: float
    low: float
    high: float


def wilson(successes: int, total: int, z: float = 1.959964) -> Interval:
    """Returns a share and its score interval (Wilson, JASA 1927), 95% by default.

    Unlike a share plus and minus its standard error, the interval stays in [0, 1], and is not empty
    if all or none succeed.

    Args:
        successes: Between 0 and `total`.
        total: Number of trials, at least 1.
        z: Half the interval's width in standard deviations of a normal distribution.

    Raises:
        ValueError: a number is out of range.
    """
    if not 0 <= successes <= total or total < 1:
        raise ValueError(
            "`successes` must be between 0 and `total`, and `total` at least 1. "
            f"Received: successes={successes}, total={total}"
        )
    share = successes / total
    center = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    reach = z * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2)) / (1 + z**2 / total)
    # If none or all succeed, an end is 0 or 1, up to rounding.
    low = max(0.0, center - reach) if successes else 0.0
    high = min(1.0, center + reach) if successes < total else 1.0
    return Interval(share, low, high)


class Comparison(NamedTuple):
    """The gain of one classifier over another on the same images, as shares of the images.

    Attributes:
        gain: The difference of the accuracies, in [-1, 1].
        low, high: Its 95% interval.
        p_value: Of the exact McNemar test: the probability of a difference at least this large
            between equally good classifiers.
    """

    gain: float
    low: float
    high: float
    p_value: float


def paired_comparison(right: np.ndarray, baseline: np.ndarray, z: float = 1.959964) -> Comparison:
    """Compares two classifiers by the images on which they differ (McNemar, Psychometrika 1947).

    The interval follows Agresti and Min (Statistics in Medicine 2005): Wald's with half an image
    added to each of the four counts, which keeps its level for few images too.

    Args:
        right: (N,) bool, whether the classifier is right about each image; N at least 1.
        baseline: (N,) bool, the same for the classifier to compare with.
        z: Half the interval's width in standard deviations of a normal distribution.

    Raises:
        ValueError: The arguments differ in shape, or hold no image.
    """
    from scipy import special  # importing `stats` takes a second

    right, baseline = np.asarray(right, bool), np.asarray(baseline, bool)
    if right.shape != baseline.shape or right.ndim != 1 or not len(right):
        raise ValueError(
            "`right` and `baseline` must be of the same images, (N,) each. "
            f"Received: right.shape={right.shape}, baseline.shape={baseline.shape}"
        )
    won, lost, total = int(np.sum(right & ~baseline)), int(np.sum(~right & baseline)), len(right)
    # Exact and two-sided: twice the smaller tail of tosses of a fair coin.
    p_value = min(1.0, 2 * special.bdtr(min(won, lost), won + lost, 0.5)) if won + lost else 1.0
    more, fewer, images = won + 0.5, lost + 0.5, total + 2
    center = (more - fewer) / images
    reach = z * math.sqrt(more + fewer - (more - fewer) ** 2 / images) / images
    low, high = max(-1.0, center - reach), min(1.0, center + reach)
    return Comparison((won - lost) / total, low, high, float(p_value))


def gain(own: Predictions | None, baseline: Predictions | None) -> Comparison | None:
    """Compares two classifiers by their predictions; None if these are for different images.

    Args:
        own, baseline: Predictions of the classifier and of the one to compare with, or None.
    """
    if own is None or baseline is None or not len(own.ids):
        return None
    if not np.array_equal(own.ids, baseline.ids):
        return None
    return paired_comparison(own.right, baseline.right)


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts (N,) labels and predictions: (C, C) int64, rows are labels, columns predictions."""
    places = np.asarray(labels) * num_classes + np.asarray(predictions)
    return np.bincount(places, minlength=num_classes**2).reshape(num_classes, num_classes)


def confusion_counts(
    labels: np.ndarray, predictions: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the entries of `confusion_matrix` that are not 0, in memory O(N).

    Returns:
        (k, 2) int64, pairs of label and prediction in ascending order, and (k,) their counts.
    """
    places = np.asarray(labels, np.int64) * num_classes + np.asarray(predictions, np.int64)
    found, counts = np.unique(places, return_counts=True)
    return np.stack(np.divmod(found, num_classes), axis=1), counts


def per_class(matrix: np.ndarray, names: Sequence[str]) -> list[dict]:
    """Returns a row per class of a confusion matrix: images, recall with interval, precision, F1.

    Numbers that need images but have none are None.
    """
    return by_class(np.diag(matrix), matrix.sum(1), matrix.sum(0), names)


def by_class(
    right: np.ndarray, images: np.ndarray, answers: np.ndarray, names: Sequence[str]
) -> list[dict]:
    """Returns the rows of `per_class` from the counts of each class.

    Args:
        right: (C,) number of images classified correctly.
        images: (C,) number of images of the class.
        answers: (C,) number of images classified as the class.
        names: (C,).
    """
    rows = []
    for name, *counts in zip(names, right, images, answers, strict=True):
        hits, total, answered = map(int, counts)
        recall = wilson(hits, total) if total else None
        rows.append(
            {
                "class": name,
                "images": total,
                "recall": recall and recall.share,
                "recall_low": recall and recall.low,
                "recall_high": recall and recall.high,
                "precision": hits / answered if answered else None,
                "f1": 2 * hits / (total + answered) if total + answered else None,
            }
        )
    return rows
