"""Finds images that look like copies of each other, from thumbnails."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simclrv2_tf.metrics.representations import unit_rows

# In the packaged images, many of which look similar, no unrelated pair of 1,000 test and 1,000 to
# 10,000 training images has a ratio below 0.05.
_LARGEST_RATIO = 0.05
_LARGEST_DIFFERENCE = 0.05
_OTHERS = 20  # the neighbour that measures how much other images differ
_SAME = 1e-4  # differences by rounding
_AT_ONCE = 1024  # queries whose correlations are in memory together


class Pair(NamedTuple):
    """Two images that look the same.

    Attributes:
        query: The row of the query.
        bank: The row of the bank image.
        difference: 1 - correlation, in [0, 2].
        mirrored: Whether the query was mirrored from left to right.
    """

    query: int
    bank: int
    difference: float
    mirrored: bool


def find(queries: np.ndarray, bank: np.ndarray) -> list[Pair]:
    """Finds the queries that look like a copy of an image in the bank, the most similar first.

    Images are compared by the correlation of their pixels, which does not depend on brightness or
    contrast. Each query is also compared mirrored from left to right. A pair is reported if
    its difference, 1 - correlation, is at most 0.05 and at most a twentieth of the difference to
    the query's 20th nearest neighbour: among similar images, a copy must stand out. Images of one
    color are skipped. Crops, rotated images and copies with a border are not found.

    Args:
        queries: (n, S, S, C) thumbnails.
        bank: (m, S, S, C) thumbnails; the nearest is reported for each query.
    """
    if not len(queries) or not len(bank):
        return []
    mirrored, _ = _standardized(queries[:, :, ::-1])
    queries, kept_queries = _standardized(queries)
    bank, kept_bank = _standardized(bank)
    others = min(_OTHERS, len(bank) - 1)
    if others < 0:
        return []
    found = []
    for begin in range(0, len(queries), _AT_ONCE):
        rows = slice(begin, begin + _AT_ONCE)
        as_is, turned = 1 - queries[rows] @ bank.T, 1 - mirrored[rows] @ bank.T
        differences = np.minimum(as_is, turned)
        nearest = differences.argmin(1)
        least = np.take_along_axis(differences, nearest[:, None], 1)[:, 0]
        usual = np.partition(differences, others, axis=1)[:, others]
        limit = np.maximum(np.minimum(_LARGEST_DIFFERENCE, _LARGEST_RATIO * usual), _SAME)
        for row in np.flatnonzero(least <= limit):
            other = nearest[row]
            found.append(
                Pair(
                    int(kept_queries[begin + row]),
                    int(kept_bank[other]),
                    max(float(least[row]), 0.0),
                    bool(turned[row, other] < as_is[row, other] - _SAME),
                )
            )
    return sorted(found, key=lambda pair: pair.difference)


def _standardized(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns gray pixels as rows of mean 0 and length 1, and the indices of the rows' images."""
    gray = images.astype(np.float32).mean(-1).reshape(len(images), -1)
    gray -= gray.mean(1, keepdims=True)
    kept = np.flatnonzero(np.abs(gray).max(1, initial=0) > 0)
    return unit_rows(gray[kept], np.float32), kept
