"""Counts of a classifier's answers, in NumPy: confusion matrix, per class, confidence intervals."""

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
    """A share and its score interval (Wilson, JASA 1927), of 95% by default.

    Unlike a share plus and minus its standard error, the interval stays in [0, 1], and is not empty
    where all or none succeed.

    Args:
        successes: Between 0 and `total`.
        total: Number of trials, at least 1.
        z: Half the interval's width in standard deviations of a normal distribution.

    Raises:
        ValueError: a number is out of range.
    """
    if not 0 <= successes <= total or total < 1:
        raise ValueError(
            "`successes` must be between 0 and `total`, and that at least 1. "
            f"Received: successes={successes}, total={total}"
        )
    share = successes / total
    center = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    reach = z * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2)) / (1 + z**2 / total)
    # Where none or all succeed an end is 0 or 1, but for rounding.
    low = max(0.0, center - reach) if successes else 0.0
    high = min(1.0, center + reach) if successes < total else 1.0
    return Interval(share, low, high)


class Comparison(NamedTuple):
    """What one classifier gains over another on the same images, as shares of them.

    Attributes:
        gain: The difference of the accuracies, in [-1, 1].
        low, high: Its 95% interval.
        p_value: Of the exact McNemar test: how likely a difference as large is between classifiers
            that are equally good.
    """

    gain: float
    low: float
    high: float
    p_value: float


def paired_comparison(right: np.ndarray, baseline: np.ndarray, z: float = 1.959964) -> Comparison:
    """Compares two classifiers by the images on which they differ (McNemar, Psychometrika 1947).

    The interval is that of Agresti and Min (Statistics in Medicine 2005): Wald's with half an image
    added to each of the four counts, which holds its level for few images as well.

    Args:
        right: (N,) bool, whether the classifier is right about each image; N at least 1.
        baseline: (N,) bool, the same of the classifier that it is compared with.
        z: Half the interval's width in standard deviations of a normal distribution.

    Raises:
        ValueError: The arguments differ in shape, or hold no image.
    """
    from scipy import special  # `stats` takes a second to import

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
    """Compares two classifiers by their predictions; None where these are not of the same images.

    Args:
        own, baseline: Predictions of the classifier and of the one that it is compared with; None
            where there are none.
    """
    if own is None or baseline is None or not len(own.ids):
        return None
    if not np.array_equal(own.ids, baseline.ids):
        return None
    return paired_comparison(own.right, baseline.right)


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts of (N,) labels and predictions: (C, C) int64, a row a label, a column a prediction."""
    places = np.asarray(labels) * num_classes + np.asarray(predictions)
    return np.bincount(places, minlength=num_classes**2).reshape(num_classes, num_classes)


def confusion_counts(
    labels: np.ndarray, predictions: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """What `confusion_matrix` holds where it is not 0, in the memory that N images take.

    Returns:
        (k, 2) int64, pairs of label and prediction in ascending order, and (k,) their counts.
    """
    places = np.asarray(labels, np.int64) * num_classes + np.asarray(predictions, np.int64)
    found, counts = np.unique(places, return_counts=True)
    return np.stack(np.divmod(found, num_classes), axis=1), counts


def per_class(matrix: np.ndarray, names: Sequence[str]) -> list[dict]:
    """A row for each class of a confusion matrix: images, recall with its interval, precision, F1.

    A number that has no images to be of is None.
    """
    return by_class(np.diag(matrix), matrix.sum(1), matrix.sum(0), names)


def by_class(
    right: np.ndarray, images: np.ndarray, answers: np.ndarray, names: Sequence[str]
) -> list[dict]:
    """The rows of `per_class`, of the counts of each class.

    Args:
        right: (C,) images that are classified correctly.
        images: (C,) images of the class.
        answers: (C,) images that are classified as it.
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
