"""Counts of a classifier's answers, in NumPy: confusion matrix, per class, confidence intervals."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


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
    return Interval(share, max(0.0, center - reach), min(1.0, center + reach))


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts of (N,) labels and predictions: (C, C) int64, a row a label, a column a prediction."""
    places = np.asarray(labels) * num_classes + np.asarray(predictions)
    return np.bincount(places, minlength=num_classes**2).reshape(num_classes, num_classes)


def per_class(matrix: np.ndarray, names: Sequence[str]) -> list[dict]:
    """A row for each class of a confusion matrix: images, recall with its interval, precision, F1.

    A number that has no images to be of is None.
    """
    rows = []
    for place, name in enumerate(names):
        right, images, answers = (
            int(matrix[place, place]),
            int(matrix[place].sum()),
            int(matrix[:, place].sum()),
        )
        recall = wilson(right, images) if images else None
        rows.append(
            {
                "class": name,
                "images": images,
                "recall": recall and recall.share,
                "recall_low": recall and recall.low,
                "recall_high": recall and recall.high,
                "precision": right / answers if answers else None,
                "f1": 2 * right / (images + answers) if images + answers else None,
            }
        )
    return rows
