"""Weighted nearest neighbours, to measure without training how well classes separate."""

import numpy as np

from simclrv2_tf.metrics.representations import unit_rows

_TEMPERATURE = 0.07
_AT_ONCE = 1024  # queries whose similarities are in memory together


def predict(
    bank: np.ndarray, labels: np.ndarray, queries: np.ndarray, num_classes: int, k: int = 20
) -> np.ndarray:
    """Predicts classes by a weighted vote of the nearest neighbours.

    The k most similar rows of the bank vote for their class, with weight exp(s / 0.07) for cosine
    similarity s (Wu et al., CVPR 2018, arXiv 1805.01978, section 3.4). Ties predict the first
    class.

    Args:
        bank: (M, d) representations with labels.
        labels: (M,) classes of the bank, in [0, `num_classes`).
        queries: (n, d).
        num_classes: C.
        k: Number of neighbours; all rows if the bank has fewer.

    Returns:
        (n,) int64.
    """
    bank, queries = unit_rows(bank, np.float32), unit_rows(queries, np.float32)
    k = min(k, len(bank))
    found = []
    for begin in range(0, len(queries), _AT_ONCE):
        similarities = queries[begin : begin + _AT_ONCE] @ bank.T
        nearest = np.argpartition(-similarities, k - 1, axis=1)[:, :k]
        weights = np.exp(np.take_along_axis(similarities, nearest, 1) / _TEMPERATURE)
        votes = np.zeros((len(nearest), num_classes))
        np.add.at(votes, (np.arange(len(nearest))[:, None], labels[nearest]), weights)
        found.append(votes.argmax(1))
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def nearest(x: np.ndarray, k: int) -> np.ndarray:
    """Returns the k other rows of `x` (n, d) with the highest cosine similarity, nearest first.

    The result is (n, k) int64, or all other rows if there are fewer than k.
    """
    x = unit_rows(x, np.float32)
    k = min(k, len(x) - 1)
    if k < 1:
        return np.zeros((len(x), 0), np.int64)
    similarities = x @ x.T
    np.fill_diagonal(similarities, -np.inf)
    found = np.argpartition(-similarities, k - 1, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(similarities, found, 1), axis=1, kind="stable")
    return np.take_along_axis(found, order, 1)


def share_kept(x: np.ndarray, points: np.ndarray, k: int = 10) -> float:
    """Returns the share of nearest neighbours that a map keeps, as a mean over rows.

    Args:
        x: (n, d) representations, compared by cosine similarity.
        points: (n, 2) positions on the map, compared by distance.
        k: Neighbours per row, in both; n - 1 if there are fewer.

    Returns:
        In [0, 1]; 1 for fewer than two rows.
    """
    found = nearest(x, k)
    k = found.shape[1]
    if not k:
        return 1.0
    # |p - q|^2 - |p|^2 orders q by the distance to p, because |p|^2 is the same for all q.
    distances = np.sum(points**2, axis=1) - 2 * points @ points.T
    np.fill_diagonal(distances, np.inf)
    on_map = np.argpartition(distances, k - 1, axis=1)[:, :k]
    return float(np.mean([len({*a} & {*b}) / k for a, b in zip(found, on_map, strict=True)]))
