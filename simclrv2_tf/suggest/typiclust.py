"""Typical and diverse images by their representations: TypiClust (arXiv 2202.02794).

Section 3.2 of the paper: cluster all images into as many clusters as there will be labels, and take
the most typical image of each of the largest clusters without a label.
"""

from __future__ import annotations

import bisect
import dataclasses
import heapq
import importlib.util
import warnings
from collections.abc import Iterator, Sequence

from etils import epy

from simclrv2_tf.errors import UserError

with epy.lazy_imports():
    import numpy as np
    import sklearn.cluster
    import sklearn.exceptions
    import sklearn.neighbors
    import threadpoolctl

# As in the paper and its released code.
_NEIGHBOURS = 20
_MOST_CLUSTERS = 500
_SMALLEST = 6  # images of a cluster; smaller ones are mostly outliers
_MOST_EXACT = 50  # clusters that k-means finds by all images at once
_BATCH = 5_000

_LEAST_DISTANCE = 1e-6  # below is rounding
_SAME = 1e-4  # the distance of unit-length rows below which two images are one and the same


class PackageError(UserError):
    """A package of an extra is not installed."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """An image that is worth a label.

    Attributes:
        row: Its row.
        cluster: Number of its cluster, from 0, the largest cluster first.
        size: Images in the cluster.
        typicality: As `typicality` gives it, within the cluster.
    """

    row: int
    cluster: int
    size: int
    typicality: float


def check_installed() -> None:
    """Checks that scikit-learn is installed, without importing it.

    Raises:
        PackageError: it is not; the message has the line that installs it.
    """
    if importlib.util.find_spec("sklearn") is None:
        raise PackageError(
            "Suggestions need scikit-learn, which is not installed: "
            "pip install 'simclrv2-tf[suggest]'."
        )


def choose(x: np.ndarray, labelled: np.ndarray, count: int, seed: int = 0) -> list[Choice]:
    """Chooses the images to label next.

    All images are clustered, into as many clusters as there will be labels, at most 500. The
    cluster with the fewest labels is next, the largest one of those that tie, and gives its most
    typical image that has no label. So each choice covers another cluster as long as there are
    clusters without labels.

    Clusters of fewer than six images come last, as the released code of the paper leaves them out.
    Where clusters are small on average, those under half the average come last instead. An image
    whose representation is that of an image with a label, or of one that was chosen, is never
    chosen: a copy needs no second label.

    Args:
        x: (n, d) float32 representations, rows of unit length.
        labelled: (n,) bool, the images that have a label.
        count: How many images to choose, at least 1.
        seed: Of k-means; the same arguments give the same choice.

    Returns:
        At most `count` choices, in the order in which they were made; fewer where no more images
        are left that differ.

    Raises:
        ValueError: An argument is out of range.
    """
    if count < 1:
        raise ValueError(f"`count` must be at least 1. Received: count={count}")
    if x.ndim != 2 or labelled.shape != (len(x),):
        raise ValueError(
            "`labelled` must have one entry for each row of `x`. "
            f"Received: x.shape={x.shape}, labelled.shape={labelled.shape}"
        )
    if not len(x):
        return []
    wanted = min(int(labelled.sum()) + count, _MOST_CLUSTERS, len(x))
    members = _members(clusters(x, wanted, seed))
    least = min(_SMALLEST, len(x) / len(members) / 2)
    queue = [
        (len(own) < least, int(labelled[own].sum()), number) for number, own in enumerate(members)
    ]
    heapq.heapify(queue)
    known = _Known(x, np.flatnonzero(labelled))
    candidates = [_candidates(x, own, labelled, known) for own in members]
    chosen: list[Choice] = []
    while queue and len(chosen) < count:
        small, labels, number = heapq.heappop(queue)
        found = next(candidates[number], None)
        if found is not None:
            row, typical = found
            chosen.append(Choice(row, number, len(members[number]), typical))
            heapq.heappush(queue, (small, labels + 1, number))
    return chosen


def clusters(x: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Clusters rows by k-means; (n,) int64, the cluster of each row from 0, the largest one first.

    Above 50 clusters by mini-batches, as in the paper. Fewer than `count` clusters are found where
    fewer rows differ.

    Args:
        x: (n, d) float32.
        count: Number of clusters, in [1, n].
        seed: Of the first centers.
    """
    if count <= _MOST_EXACT:
        kmeans = sklearn.cluster.KMeans(count, random_state=seed)
    else:
        kmeans = sklearn.cluster.MiniBatchKMeans(count, random_state=seed, batch_size=_BATCH)
    # Several threads would add up the centers in an order that differs from call to call.
    with threadpoolctl.threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", sklearn.exceptions.ConvergenceWarning)
        found = kmeans.fit_predict(x)
    _, numbers, sizes = np.unique(found, return_inverse=True, return_counts=True)
    places = np.empty(len(sizes), np.int64)
    places[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    return places[numbers]


def typicality(x: np.ndarray) -> np.ndarray:
    """How typical each row is of the others: (n,) float64, the higher the more.

    One over the mean Euclidean distance of its k nearest neighbours (equation 4 of the paper). k is
    20, or half the number of rows where that is less. Rows that equal their neighbours have 10^6;
    a row alone has 0.

    Args:
        x: (n, d), the representations of one cluster.
    """
    if len(x) < 2:
        return np.zeros(len(x))
    near = sklearn.neighbors.NearestNeighbors(
        n_neighbors=min(_NEIGHBOURS, len(x) // 2), algorithm="brute"
    )
    with threadpoolctl.threadpool_limits(1):
        distances, _ = near.fit(x).kneighbors()  # of other rows than each row itself
    return 1 / np.maximum(distances.mean(1, dtype=np.float64), _LEAST_DISTANCE)


def _members(assigned: np.ndarray) -> Sequence[np.ndarray]:
    """The rows of each cluster, in ascending order."""
    order = np.argsort(assigned, kind="stable")
    return np.split(order, np.cumsum(np.bincount(assigned))[:-1])


def _candidates(
    x: np.ndarray, members: np.ndarray, labelled: np.ndarray, known: _Known
) -> Iterator[tuple[int, float]]:
    """Yields the rows of a cluster that are worth a label, and their typicality, highest first."""
    typical = typicality(x[members])
    for place in np.argsort(-typical, kind="stable"):
        row = int(members[place])
        if not labelled[row] and not known.has_copy(row):
            known.add(row)
            yield row, float(typical[place])


class _Known:
    """The rows that need no further label: those that have one, and those that are chosen.

    Copies of an image differ by rounding, so that k-means may part them. Rows are compared where
    their places along one direction are near, since these are never farther apart than the rows.
    """

    def __init__(self, x: np.ndarray, rows: np.ndarray):
        direction = np.asarray(np.random.default_rng(0).normal(size=x.shape[1]), x.dtype)
        self._x = x
        self._along = x @ (direction / np.linalg.norm(direction))
        self._rows = sorted((float(self._along[row]), int(row)) for row in rows)

    def add(self, row: int) -> None:
        bisect.insort(self._rows, (float(self._along[row]), row))

    def has_copy(self, row: int) -> bool:
        """Whether a known row equals this one, but for rounding."""
        place = float(self._along[row])
        begin = bisect.bisect_left(self._rows, (place - _SAME, -1))
        end = bisect.bisect_left(self._rows, (place + _SAME, len(self._x)))
        near = (other for _, other in self._rows[begin:end])
        return any(np.linalg.norm(self._x[row] - self._x[other]) < _SAME for other in near)
